"""``Client``: everything the API offers, on one connection."""

from __future__ import annotations

from ovnk_client.certificates import CertificateCalls
from ovnk_client.egress_ips import EgressIPCalls
from ovnk_client.outputs import OutputCalls
from ovnk_client.progress import ProgressCalls
from ovnk_client.questions import QuestionCalls


class Client(ProgressCalls, QuestionCalls, OutputCalls, EgressIPCalls, CertificateCalls):
    """One server.

        async with Client("unix:/run/ovnk/ovnk.sock") as client:
            await client.apply_and_wait(manifest, stage="realized")
            async with client.watch("egressfirewalls") as events:
                async for event in events:
                    ...

    ``Client("host:6643", tls=Tls(ca=..., cert=..., key=...))`` for TCP. Every call raises a ClientError when it fails.
    Not to be shared between threads or event loops.
    """
