"""IPsec (15.4): what travels between nodes in Geneve tunnels is encrypted.

One row says so: ``NB_Global.ipsec``. What OVN makes of it (ESP between chassis) is each chassis' doing, with
certificates from ``ovnk_core.certificates``. The switch is of installation time: a recorded decision
(``InstallDecision``), which ``admission`` enforces. What of a packet's way is encrypted, ``verdict`` tells.
"""

from ovnk_core.features.ipsec.rules import RULES
from ovnk_core.features.room import Room

ROOM = Room(name="ipsec", source="15.4", rules=RULES)
