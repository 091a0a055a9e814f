"""Real packets: chassis with Open vSwitch in user space, pods and an outsider that are sockets of the test.

``Wires`` is the underlay that carries Geneve and the physical network behind every chassis' br-ex; ``Chassis`` one
host with ovsdb-server, ovs-vswitchd and ovn-controller in a network namespace of its own, for no kernel datapath is
needed then; ``Host`` whoever has addresses. ``Plane`` is all of it around one cluster of ours. ``ask`` opens a
connection and tells who was reached, and as whom.

Open vSwitch 3.1 in user space drops a packet that passed connection tracking and the like more than six times
(``datapath_drop_recirc_error``). One that a gateway balances over several endpoints, hides and hands to a pod of its
own node is such a packet; so gateways are asked for endpoints of other nodes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

from ovnk_core.cluster import Cluster
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.nb import naming
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import NODE_PLACE, NodePlace
from tests.kit.namespace import Namespace, link
from tests.kit.ovn import Central, Daemon, DaemonFailed, OvnMissing, environment, program, wait_until
from tests.kit.wire import Wire

Told = Literal["allow", "reject", "drop"]
OUTSIDE, OUTSIDE6 = "192.0.2.1", "2001:db8::1"
"""The outsider: first address of the nodes' link, so also the router that a plain node is taken to have."""
POD_MTU = 1400
ANSWERED_S = 5.0
"""How long an answer may take."""
VSWITCH_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
BRIDGES = {"under": "brunder", "outer": "brouter"}


class Heard(NamedTuple):
    """What became of a connection: whose socket got it and the client's address there, both empty if nobody's."""

    verdict: Told
    server: str = ""
    client: str = ""


class Wires:
    """The underlay, 10.99.0.0/24, and the physical network, 192.0.2.0/24 and 2001:db8::/64: two bridges."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        for bridge in BRIDGES.values():
            self.namespace.ip(f"link add {bridge} type bridge mcast_snooping 0", f"link set {bridge} up")

    def plug(self, namespace: Namespace, device: str, network: Literal["under", "outer"], name: str) -> None:
        """Connect ``device`` of a namespace; ``name`` is the other end's."""
        link(namespace, device, self.namespace, name)
        self.namespace.ip(f"link set {name} master {BRIDGES[network]}")


class Host:
    """Whoever has a device ``eth0`` and addresses. Sockets that it makes are closed with it."""

    def __init__(self, name: str, addresses: Iterable[str]) -> None:
        self.name, self.addresses = name, tuple(addresses)
        self.namespace = Namespace()
        self._sockets: list[socket.socket] = []

    def settle(self, *commands: str) -> None:
        """Give ``eth0``, which is there by now, its addresses, then do more of ip(8)."""
        given = (f"addr add {each} dev eth0" + (" nodad" if ":" in each else "") for each in self.addresses)
        self.namespace.ip(*given, *commands)

    def new_socket(self, family: int, protocol: Literal["tcp", "udp"]) -> socket.socket:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        family = socket.AF_INET if family == 4 else socket.AF_INET6
        with self.namespace.entered():
            made = socket.socket(family, kind)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._sockets.append(made)
        return made

    def listen(self, port: int, *, protocol: Literal["tcp", "udp"] = "tcp", family: int = 4) -> socket.socket:
        """A server on every address of a family."""
        made = self.new_socket(family, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        if protocol == "tcp":
            made.listen(64)
        return made

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        self.namespace.close()


class Chassis:
    """The host of one node. ``place.chassis`` is its system-id; ports are bound by the node's name (requested-chassis),
    which is its hostname. ``number`` from 1 on."""

    def __init__(self, place: NodePlace, number: int, directory: Path, *, southbound: str, wires: Wires) -> None:
        self.place, self.directory = place, directory / place.name
        self.directory.mkdir()
        self.namespace, self._southbound = Namespace(), southbound
        self.address, self.mac = f"10.99.0.{number}", f"02:00:0a:63:00:{number:02x}"
        wires.plug(self.namespace, "eth0", "under", f"under{number}")
        wires.plug(self.namespace, "eth1", "outer", f"outer{number}")
        self._socket = f"{self.directory}/db.sock"
        logged = ("-vconsole:off", "--no-chdir")
        self.daemons = [
            self._daemon("ovsdb-server", *logged, f"--remote=punix:{self._socket}", f"{self.directory}/conf.db"),
            self._daemon("ovs-vswitchd", *logged, "--disable-system", f"--unixctl={self._ctl}", f"unix:{self._socket}"),
            self._daemon("ovn-controller", *logged, f"unix:{self._socket}"),
        ]

    @property
    def _ctl(self) -> str:
        return f"{self.directory}/vswitchd.ctl"

    def _daemon(self, name: str, *options: str) -> Daemon:
        argv = [program(name), f"--log-file={self.directory}/{name}.log", *options]
        return Daemon(name, argv, self.directory)

    def start(self) -> None:
        """The daemons, br-int, br-ex with the physical network, br-phy with the tunnels' address."""
        if not VSWITCH_SCHEMA.exists():
            raise OvnMissing(f"{VSWITCH_SCHEMA} is not installed; on Debian, as root: scripts/ensure-ovn")
        self._run("ovsdb-tool", "create", f"{self.directory}/conf.db", str(VSWITCH_SCHEMA))
        database, switch, controller = self.daemons
        with self.namespace.entered():
            database.start()
            wait_until(database, lambda: Wire.answers(self._socket), "did not listen in time")
            self.vsctl("--no-wait", "init")
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *self._facts())
            switch.start()
        self.vsctl(*self._bridges())
        self.namespace.ip(f"addr add {self.address}/24 dev br-phy", "link set br-phy up")
        with self.namespace.entered():
            controller.start()

    def _facts(self) -> list[str]:
        facts = {
            "system-id": self.place.chassis,
            "hostname": self.place.name,
            "ovn-remote": self._southbound,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": self.address,
            "ovn-bridge-mappings": "physnet:br-ex",
            "ovn-bridge-datapath-type": "netdev",
            "ovn-monitor-all": "true",
        }
        return [f'external_ids:{key}="{value}"' for key, value in facts.items()]

    def _bridges(self) -> list[str]:
        """Arguments of ovs-vsctl."""
        words: list[str] = []
        for bridge, port in (("br-int", ""), ("br-ex", "eth1"), ("br-phy", "eth0")):
            words += ["--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"]
            words += ["--", "add-port", bridge, port] if port else ["fail-mode=secure"]
        return [*words[1:], "--", "set", "bridge", "br-phy", f'other-config:hwaddr="{self.mac}"']

    def meet(self, others: Iterable[Chassis]) -> None:
        """Know the neighbours of the tunnels beforehand; otherwise the first packet each way is lost."""
        for other in others:
            self._run("ovs-appctl", "-t", self._ctl, "tnl/neigh/set", "br-phy", other.address, other.mac)

    def plug(self, device: str, port: str) -> None:
        """A device of the chassis becomes the logical port ``port``."""
        self.vsctl("add-port", "br-int", device, "--", "set", "interface", device, f'external_ids:iface-id="{port}"')

    def vsctl(self, *words: str) -> None:
        self._run("ovs-vsctl", "--timeout=20", f"--db=unix:{self._socket}", *words)

    def _run(self, name: str, *words: str) -> None:
        argv = [program(name), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment(self.directory))
        if done.returncode:
            raise DaemonFailed(f"{' '.join(argv)}: {done.stderr.strip()}")

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()
        self.namespace.close()


class Plane:
    """A cluster of ours in real packets: central, a chassis for every node, a host for every pod, one outsider."""

    def __init__(self, directory: Path) -> None:
        self.central, self.directory = Central(directory), directory
        self.chassis: dict[str, Chassis] = {}
        self.pods: dict[str, Host] = {}
        self.outside = Host("outside", (f"{OUTSIDE}/24", f"{OUTSIDE6}/64"))
        self._wires = Wires()

    def start(self) -> Self:
        """The outsider and an empty central."""
        self.central.start()
        self._wires.plug(self.outside.namespace, "eth0", "outer", "outsider")
        self.outside.settle()
        return self

    def show(self, cluster: Cluster) -> None:
        """Give a cluster whose rows are in the northbound its chassis and pods, and wait until packets can flow."""
        places = sorted(cluster.engine.rows(NODE_PLACE).values(), key=lambda place: place.name)
        for number, place in enumerate(places, 1):
            made = Chassis(place, number, self.directory, southbound=self.central.sb, wires=self._wires)
            self.chassis[place.name] = made
            made.start()
        for made in self.chassis.values():
            made.meet(other for other in self.chassis.values() if other is not made)
        for number, key in enumerate(sorted(cluster.engine.rows(ENDPOINT)), 1):
            self._show_pod(cluster, key, f"pod{number}")
        with self.central.northbound.wire() as wire:
            wire.transact(
                *(_until_up(naming.pod_port_name(key)) for key in cluster.engine.rows(ENDPOINT)), timeout_s=40
            )
        self.central.sync(until="hv_cfg")

    def _show_pod(self, cluster: Cluster, key: NamespacedName, device: str) -> None:
        pod = cluster.engine.rows(ENDPOINT)[key]
        chassis = self.chassis[pod.node]
        prefixes = {subnet.family: subnet.prefix for subnet in chassis.place.subnets}
        host = Host(key.name, (f"{address}/{prefixes[address.family]}" for address in pod.addresses))
        self.pods[key.name] = host
        link(host.namespace, "eth0", chassis.namespace, device, mac=pod.mac)
        routes = (f"route add default via {each.address}" for each in chassis.place.router)
        host.settle(f"link set eth0 mtu {POD_MTU}", *routes)
        chassis.plug(device, naming.pod_port_name(key))

    def wait_for_members(self, group: Address, pods: Iterable[str]) -> None:
        """Until the southbound knows exactly that these logical ports joined ``group``, and every chassis acts on it.

        Raises DaemonFailed when it takes longer than ``ANSWERED_S``.
        """
        wanted, found = frozenset(pods), frozenset[str]()
        deadline = time.monotonic() + ANSWERED_S
        with self.central.southbound.wire() as wire:
            while found != wanted:
                if time.monotonic() > deadline:
                    raise DaemonFailed(f"members of {group} are {sorted(found)}, not {sorted(wanted)}")
                found = members(wire, group)
                time.sleep(0.005)
        self.central.sync(until="hv_cfg")

    def stop(self) -> None:
        for host in (*self.pods.values(), self.outside):
            host.close()
        for chassis in self.chassis.values():
            chassis.stop()
        self._wires.namespace.close()
        self.central.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _until_up(port: str) -> dict[str, object]:
    return {
        "op": "wait",
        "timeout": 30_000,
        "table": "Logical_Switch_Port",
        "where": [["name", "==", port]],
        "columns": ["up"],
        "until": "==",
        "rows": [{"up": True}],
    }


def members(wire: Wire, group: Address) -> frozenset[str]:
    """Logical ports whose pods joined ``group``, as the southbound knows."""
    names = {row["_uuid"][1]: row["logical_port"] for row in wire.select("Port_Binding")}
    found: set[str] = set()
    for row in wire.select("IGMP_Group", [["address", "==", str(group)]]):
        kind, value = row["ports"]
        found |= {names[each[1]] for each in (value if kind == "set" else [row["ports"]])}
    return frozenset(found)


def ask(
    client: Host,
    target: str,
    port: int,
    *,
    servers: Mapping[str, socket.socket],
    protocol: Literal["tcp", "udp"] = "tcp",
    patience_s: float = ANSWERED_S,
) -> Heard:
    """Open a connection, have one word answered, and tell who got it. The sockets of ``servers`` by name."""
    with contextlib.closing(client.new_socket(6 if ":" in target else 4, protocol)) as connection:
        connection.settimeout(patience_s)
        try:
            connection.connect((target, port))
            return _converse(connection, servers, protocol, patience_s)
        except ConnectionRefusedError:
            return Heard("reject")
        except TimeoutError:
            return Heard("drop")


def _converse(
    connection: socket.socket, servers: Mapping[str, socket.socket], protocol: str, patience_s: float
) -> Heard:
    connection.send(b"ask")
    readable, _, _ = select.select([connection, *servers.values()], [], [], patience_s)
    if connection in readable:
        connection.recv(16)
    if not readable:
        return Heard("drop")
    name, server = next((name, server) for name, server in servers.items() if server in readable)
    if protocol == "udp":
        word, peer = server.recvfrom(16)
        server.sendto(word, peer)
    else:
        accepted, peer = server.accept()
        with accepted:
            accepted.settimeout(patience_s)
            accepted.sendall(accepted.recv(16))
    if connection.recv(16) != b"ask":
        raise AssertionError(f"{name} answered something else")
    return Heard("allow", name, str(peer[0]))


def join(host: Host, group: Address, port: int) -> socket.socket:
    """A socket that hears what is sent to a group."""
    made = host.listen(port, protocol="udp", family=group.family)
    with host.namespace.entered():
        index = socket.if_nametoindex("eth0")
    if group.family == 4:
        request = socket.inet_aton(str(group)) + bytes(4) + index.to_bytes(4, sys.byteorder)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        request = socket.inet_pton(socket.AF_INET6, str(group)) + index.to_bytes(4, sys.byteorder)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    return made


def call(host: Host, group: Address, port: int, words: Sequence[bytes]) -> None:
    """Send datagrams to a group, far enough for routers to pass them on."""
    made = host.new_socket(group.family, "udp")
    if group.family == 4:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
    for word in words:
        made.sendto(word, (str(group), port))


def heard(server: socket.socket, patience_s: float) -> bytes | None:
    """The next datagram; None if there is none in time."""
    server.settimeout(patience_s)
    try:
        return server.recv(64)
    except (TimeoutError, BlockingIOError):
        return None
