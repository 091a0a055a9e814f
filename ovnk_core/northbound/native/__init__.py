"""The native driver: an asyncio client of RFC 7047, without threads and without python-ovs.

``jsonrpc`` cuts messages out of the stream, ``session`` keeps one connection, ``tls`` secures it, ``cluster`` finds the
member to talk to, ``monitor`` mirrors tables, ``transact`` writes operations in RFC 7047 JSON and reads the reply,
``client`` puts them behind the port.
"""

from ovnk_core.northbound.native.client import NativeNorthbound
from ovnk_core.northbound.native.session import Liveness
from ovnk_core.northbound.native.tls import TlsFiles

__all__ = ["Liveness", "NativeNorthbound", "TlsFiles"]
