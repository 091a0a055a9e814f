"""Every ``oc`` command of chapter 15, as the manual writes it: its ``ovnk`` twin run on a real server, or why there is
none yet.

``COMMANDS`` is the chapter's list, in its order and with repetitions. Each entry is a *twin* of ``TWINS``, or *later*
(a kind that is not built yet, with the room that brings it), or *foreign* (what only the cluster itself can do).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.cli.online import Terminal, terminal

MIGRATION = "'networkoperator.openshift.io/network-migration'=\"\""
POOL = "oc patch MachineConfigPool {} --type='merge' --patch '{{ \"spec\": {{ \"paused\": {} }} }}'"
NODE_IPS = "oc get nodes -o jsonpath='{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}'"
NETWORK_TYPE = "oc get network.config/cluster -o jsonpath='{.status.networkType}{\"\\n\"}'"
BY_NODE = "oc get pods --all-namespaces -o wide --sort-by='{.spec.nodeName}'"
ANNOTATE_OPERATOR = f"oc annotate Network.operator.openshift.io cluster {MIGRATION}"
ROLLOUT = "oc -n openshift-multus rollout status daemonset/multus"
LOGS = "oc logs <pod> -n openshift-machine-config-operator"
PODS_OF_OPERATOR = "oc get pod -n openshift-machine-config-operator"
CLEAR_MIGRATION = "oc annotate Network.operator.openshift.io cluster networkoperator.openshift.io/network-migration-"
GET_IN_PROJECT = "oc get -n <project> egressfirewall"

COMMANDS: tuple[str, ...] = (
    # 15.2, migrating from OpenShift SDN
    "oc get Network.config.openshift.io cluster -o yaml > cluster-openshift-sdn.yaml",
    ANNOTATE_OPERATOR,
    POOL.format("master", "true"),
    POOL.format("worker", "true"),
    "oc patch Network.config.openshift.io cluster --type='merge' --patch (networkType OVNKubernetes)",
    "oc patch Network.config.openshift.io cluster --type='merge' --patch (clusterNetwork, networkType)",
    "oc patch Network.operator.openshift.io cluster --type=merge --patch (mtu, genevePort)",
    "oc patch Network.operator.openshift.io cluster --type=merge --patch (mtu 1200)",
    ROLLOUT,
    NODE_IPS,
    POOL.format("master", "false"),
    POOL.format("worker", "false"),
    'oc describe node | egrep "hostname|machineconfig"',
    "oc get machineconfig <config_name> -o yaml | grep ExecStart",
    NETWORK_TYPE,
    "oc get nodes",
    PODS_OF_OPERATOR,
    LOGS,
    BY_NODE,
    CLEAR_MIGRATION,
    "oc delete namespace openshift-sdn",
    # 15.3, and back
    ANNOTATE_OPERATOR,
    POOL.format("master", "true"),
    POOL.format("worker", "true"),
    "oc patch Network.config.openshift.io cluster --type='merge' --patch (networkType OpenShiftSDN)",
    "oc patch Network.operator.openshift.io cluster --type=merge --patch (openshiftSDNConfig mtu, vxlanPort)",
    "oc patch Network.operator.openshift.io cluster --type=merge --patch (openshiftSDNConfig mtu 1200)",
    ROLLOUT,
    NODE_IPS,
    POOL.format("master", "false"),
    POOL.format("worker", "false"),
    'oc describe node | egrep "hostname|machineconfig"',
    "oc get machineconfig <config_name> -o yaml",
    NETWORK_TYPE,
    "oc get nodes",
    PODS_OF_OPERATOR,
    LOGS,
    BY_NODE,
    CLEAR_MIGRATION,
    "oc delete namespace openshift-ovn-kubernetes",
    # 15.5 to 15.8, egress firewalls
    "oc get ep kubernetes -n default",
    "oc create -f <policy_name>.yaml -n <project>",
    "oc create -f default.yaml -n project1",
    "oc get egressfirewall --all-namespaces",
    "oc describe egressfirewall <policy_name>",
    GET_IN_PROJECT,
    "oc get -n <project> egressfirewall <name> -o yaml > <filename>.yaml",
    "oc replace -f <filename>.yaml",
    GET_IN_PROJECT,
    "oc delete -n <project> egressfirewall <name>",
    # 15.9 and 15.10, egress IPs
    'oc label nodes <node_name> k8s.ovn.org/egress-assignable=""',
    "oc apply -f <egressips_name>.yaml",
    "oc label ns <namespace> env=qa",
    # 15.11 and 15.12, egress routers
    "oc expose deployment/egress-demo-controller",
    "oc get events --field-selector involvedObject.name=egress-router-pod",
    'oc get pod egress-router-pod -o jsonpath="{.spec.nodeName}"',
    "oc debug node/$POD_NODENAME",
    # 15.13 and 15.14, multicast
    "oc annotate namespace <namespace> k8s.ovn.org/multicast-enabled=true",
    "oc project <project>",
    "cat <<EOF| oc create -f - (mlistener)",
    "cat <<EOF| oc create -f - (msender)",
    "oc get pods mlistener -o jsonpath='{.status.podIP}'",
    "oc exec mlistener -i -t -- socat",
    "oc get Network.config.openshift.io cluster -o jsonpath='{.status.clusterNetwork[0].cidr}'",
    "oc exec msender -i -t -- /bin/bash -c",
    "oc annotate namespace <namespace> k8s.ovn.org/multicast-enabled-",
)

FOREIGN: dict[str, str] = {
    **{
        POOL.format(pool, paused): "MachineConfigPool is the Machine Config Operator's"
        for pool in ("master", "worker")
        for paused in ("true", "false")
    },
    "oc get machineconfig <config_name> -o yaml | grep ExecStart": "MachineConfig is the Machine Config Operator's",
    "oc get machineconfig <config_name> -o yaml": "MachineConfig is the Machine Config Operator's",
    ROLLOUT: "a daemon set is Kubernetes' to roll out",
    LOGS: "logs are the node's",
    "oc debug node/$POD_NODENAME": "a shell on a node",
    "oc expose deployment/egress-demo-controller": "a Deployment is no object of the network's; its Service is written",
    "oc exec mlistener -i -t -- socat": "a command in a container",
    "oc exec msender -i -t -- /bin/bash -c": "a command in a container",
}
OTHER_PLUGIN = "the other plug-in is not programmed here, and its settings are refused by name"


class Twin(NamedTuple):
    """What stands for a command: words for ``ovnk``, and whether its answer is right."""

    words: tuple[str, ...]
    check: Callable[[str], bool]
    stdin: str = ""


def _pod(name: str, *ports: int) -> str:
    container = {"name": name, "image": "registry.access.redhat.com/ubi8", "command": ["/bin/sh", "-c"]}
    container |= (
        {"ports": [{"containerPort": port, "name": name, "protocol": "UDP"} for port in ports]} if ports else {}
    )
    meta = {"name": name, "labels": {"app": "multicast-verify"}}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})


OPERATOR, CONFIG = "Network.operator.openshift.io", "Network.config.openshift.io"
MTU = '{"spec":{"defaultNetwork":{"ovnKubernetesConfig":{"mtu":%s}}}}'


def _says(*words: str) -> Callable[[str], bool]:
    return lambda out: all(word in out for word in words)


def _is(text: str) -> Callable[[str], bool]:
    return lambda out: out == text


EGRESS_IP = yaml.safe_dump(
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressIP",
        "metadata": {"name": "egress-project1"},
        "spec": {"egressIPs": ["192.168.127.10"], "namespaceSelector": {"matchLabels": {"env": "qa"}}},
    }
)
TWINS: dict[str, Twin] = {
    COMMANDS[0]: Twin(("get", CONFIG, "cluster", "-o", "yaml"), _says("networkType: OVNKubernetes")),
    ANNOTATE_OPERATOR: Twin(
        ("annotate", OPERATOR, "cluster", "networkoperator.openshift.io/network-migration="),
        _is("network.operator.openshift.io/cluster annotated\n"),
    ),
    COMMANDS[4]: Twin(
        ("patch", CONFIG, "cluster", "--type=merge", "--patch", '{ "spec": { "networkType": "OVNKubernetes" } }'),
        _says("network.config.openshift.io/cluster patched"),
    ),
    COMMANDS[5]: Twin(
        (
            *("patch", CONFIG, "cluster", "--type=merge", "--patch"),
            '{"spec": {"clusterNetwork": [{"cidr": "10.132.0.0/14", "hostPrefix": 23}],'
            ' "networkType": "OVNKubernetes"}}',
        ),
        _is("network.config.openshift.io/cluster patched\n"),
    ),
    COMMANDS[6]: Twin(
        (
            *("patch", OPERATOR, "cluster", "--type=merge", "--patch"),
            '{"spec":{"defaultNetwork":{"ovnKubernetesConfig":{"mtu":1300, "genevePort":6082}}}}',
        ),
        _is("network.operator.openshift.io/cluster patched\n"),
    ),
    COMMANDS[7]: Twin(
        ("patch", OPERATOR, "cluster", "--type=merge", "--patch", MTU % "1200"),
        _is("network.operator.openshift.io/cluster patched\n"),
    ),
    NODE_IPS: Twin(
        ("get", "nodes", "-o", 'jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}'),
        _is("192.0.2.11 192.0.2.12"),
    ),
    'oc describe node | egrep "hostname|machineconfig"': Twin(
        ("describe", "node"),
        _says("kubernetes.io/hostname=worker-1", "machineconfiguration.openshift.io/state=Done"),
    ),
    NETWORK_TYPE: Twin(
        ("get", "network.config/cluster", "-o", 'jsonpath={.status.networkType}{"\\n"}'), _is("OVNKubernetes\n")
    ),
    "oc get nodes": Twin(
        ("get", "nodes"),
        lambda out: (
            [line.split()[:2] for line in out.splitlines()[1:]] == [["worker-1", "Ready"], ["worker-2", "Ready"]]
        ),
    ),
    PODS_OF_OPERATOR: Twin(
        ("get", "pod", "-n", "openshift-machine-config-operator"), _says("machine-config-daemon-5cf4b")
    ),
    BY_NODE: Twin(
        ("get", "pods", "--all-namespaces", "-o", "wide", "--sort-by={.spec.nodeName}", "--no-headers"),
        lambda out: (
            [word for line in out.splitlines() for word in line.split() if word.startswith("worker-")]
            == ["worker-1", "worker-1", "worker-2"]
        ),
    ),
    CLEAR_MIGRATION: Twin(
        ("annotate", OPERATOR, "cluster", "networkoperator.openshift.io/network-migration-"),
        _says("network.operator.openshift.io/cluster"),
    ),
    "oc delete namespace openshift-sdn": Twin(
        ("delete", "namespace", "openshift-sdn"), _is("namespace/openshift-sdn deleted\n")
    ),
    "oc delete namespace openshift-ovn-kubernetes": Twin(
        ("delete", "namespace", "openshift-ovn-kubernetes"), _is("namespace/openshift-ovn-kubernetes deleted\n")
    ),
    "oc create -f <policy_name>.yaml -n <project>": Twin(
        ("create", "-f", "FOLDER/policy.yaml", "-n", "project2"), _is("egressfirewall.k8s.ovn.org/default created\n")
    ),
    "oc get ep kubernetes -n default": Twin(
        ("get", "ep", "kubernetes", "-n", "default"), _says("NAME", "ENDPOINTS", "192.0.2.21:6443,192.0.2.22:6443")
    ),
    "oc create -f default.yaml -n project1": Twin(
        ("create", "-f", "FOLDER/default.yaml", "-n", "project1"), _is("egressfirewall.k8s.ovn.org/default created\n")
    ),
    "oc get egressfirewall --all-namespaces": Twin(
        ("get", "egressfirewall", "--all-namespaces"),
        lambda out: (
            [line.split()[:2] for line in out.splitlines()[1:]] == [["project1", "default"], ["project2", "default"]]
        ),
    ),
    "oc describe egressfirewall <policy_name>": Twin(
        ("describe", "egressfirewall", "default", "-n", "project1"),
        lambda out: (
            re.fullmatch(
                "Name:\t\tdefault\nNamespace:\tproject1\nCreated:\t[0-9]+ seconds? ago\nLabels:\t\t<none>\n"
                "Annotations:\t<none>\nRule:\t\tAllow to 1.2.3.0/24\nRule:\t\tAllow to www.example.com\n"
                "Rule:\t\tDeny to 0.0.0.0/0\n(Status|Message|Condition|DNS):\t(.|\n)*",
                out,
            )
            is not None
        ),
    ),
    GET_IN_PROJECT: Twin(("get", "-n", "project1", "egressfirewall"), _says("NAME", "default")),
    "oc get -n <project> egressfirewall <name> -o yaml > <filename>.yaml": Twin(
        ("get", "-n", "project1", "egressfirewall", "default", "-o", "yaml"),
        _says("kind: EgressFirewall", "cidrSelector: 1.2.3.0/24", "resourceVersion: r"),
    ),
    "oc replace -f <filename>.yaml": Twin(
        ("replace", "-f", "FOLDER/read.yaml"), _is("egressfirewall.k8s.ovn.org/default replaced\n")
    ),
    "oc delete -n <project> egressfirewall <name>": Twin(
        ("delete", "-n", "project1", "egressfirewall", "default"), _is("egressfirewall.k8s.ovn.org/default deleted\n")
    ),
    'oc label nodes <node_name> k8s.ovn.org/egress-assignable=""': Twin(
        ("label", "nodes", "worker-1", "k8s.ovn.org/egress-assignable="), _is("node/worker-1 labeled\n")
    ),
    "oc label ns <namespace> env=qa": Twin(("label", "ns", "project1", "env=qa"), _is("namespace/project1 labeled\n")),
    "oc get events --field-selector involvedObject.name=egress-router-pod": Twin(
        ("get", "events", "--field-selector", "involvedObject.name=egress-router-pod"),
        lambda out: (
            out.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
            and "Normal" in out
            and "pod/egress-router-pod" in out
        ),
    ),
    'oc get pod egress-router-pod -o jsonpath="{.spec.nodeName}"': Twin(
        ("get", "pod", "egress-router-pod", "-o", "jsonpath={.spec.nodeName}"), _is("worker-2")
    ),
    "oc annotate namespace <namespace> k8s.ovn.org/multicast-enabled=true": Twin(
        ("annotate", "namespace", "project1", "k8s.ovn.org/multicast-enabled=true"),
        _is("namespace/project1 annotated\n"),
    ),
    # Nothing is kept on disk: the environment names the project, as -n does.
    "oc project <project>": Twin(("get", "ns", "project1", "-o", "name"), _is("namespace/project1\n")),
    "oc apply -f <egressips_name>.yaml": Twin(
        ("apply", "-f", "-"), _is("egressip.k8s.ovn.org/egress-project1 created\n"), EGRESS_IP
    ),
    "cat <<EOF| oc create -f - (mlistener)": Twin(
        ("create", "-f", "-"), _is("pod/mlistener created\n"), _pod("mlistener", 30102)
    ),
    "cat <<EOF| oc create -f - (msender)": Twin(("create", "-f", "-"), _is("pod/msender created\n"), _pod("msender")),
    "oc get pods mlistener -o jsonpath='{.status.podIP}'": Twin(
        ("get", "pods", "mlistener", "-o", "jsonpath={.status.podIP}"),
        lambda out: out.startswith("10."),
    ),
    "oc get Network.config.openshift.io cluster -o jsonpath='{.status.clusterNetwork[0].cidr}'": Twin(
        ("get", CONFIG, "cluster", "-o", "jsonpath={.status.clusterNetwork[0].cidr}"), _is("10.128.0.0/14")
    ),
    "oc annotate namespace <namespace> k8s.ovn.org/multicast-enabled-": Twin(
        ("annotate", "namespace", "project1", "k8s.ovn.org/multicast-enabled-"), _is("namespace/project1 annotated\n")
    ),
}
REFUSED: dict[str, tuple[str, ...]] = {
    COMMANDS[24]: ("patch", CONFIG, "cluster", "--type=merge", "--patch", '{"spec": {"networkType": "OpenShiftSDN"}}'),
    COMMANDS[25]: (
        *("patch", OPERATOR, "cluster", "--type=merge", "--patch"),
        '{"spec":{"defaultNetwork":{"openshiftSDNConfig":{"mtu":1400, "vxlanPort":4790}}}}',
    ),
    COMMANDS[26]: (
        *("patch", OPERATOR, "cluster", "--type=merge", "--patch"),
        '{"spec":{"defaultNetwork":{"openshiftSDNConfig":{"mtu":1200}}}}',
    ),
}
"""Twins that answer with a refusal: the way back to the other plug-in comes with migration."""


# ------------------------------------------------------------------------------- the cluster they are run on


def _meta(name: str, namespace: str = "", **labels: str) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, **({"labels": labels} if labels else {})}


def _node(name: str, address: str) -> dict[str, Any]:
    meta = _meta(name) | {
        "labels": {"kubernetes.io/hostname": name},
        "annotations": {"machineconfiguration.openshift.io/state": "Done"},
    }
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    status = {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status}


def _scheduled(place: str, name: str, node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta(name, place),
        "spec": {"nodeName": node, "containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    }


def _firewall(*rules: tuple[str, str, str]) -> dict[str, Any]:
    """As the manual's files are: without a namespace."""
    egress = [{"type": verdict, "to": {field: value}} for verdict, field, value in rules]
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": _meta("default"),
        "spec": {"egress": egress},
    }


def _api_server(*addresses: str) -> dict[str, Any]:
    subset = {"addresses": [{"ip": each} for each in addresses], "ports": [{"name": "https", "port": 6443}]}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": _meta("kubernetes", "default"), "subsets": [subset]}


def landscape() -> list[dict[str, Any]]:
    """What the chapter takes for granted."""
    ranges = [{"cidr": "10.128.0.0/14", "hostPrefix": 23}]
    status = {"networkType": "OVNKubernetes", "clusterNetwork": ranges, "serviceNetwork": ["172.30.0.0/16"]}
    spec = {"networkType": "OVNKubernetes", "clusterNetwork": ranges, "serviceNetwork": ["172.30.0.0/16"]}
    operator = "openshift-machine-config-operator"
    projects = ("default", "project1", "project2", "openshift-sdn", "openshift-ovn-kubernetes", operator)
    return [
        {
            "apiVersion": "config.openshift.io/v1",
            "kind": "Network",
            "metadata": _meta("cluster"),
            "spec": spec,
            "status": status,
        },
        {
            "apiVersion": "operator.openshift.io/v1",
            "kind": "Network",
            "metadata": _meta("cluster"),
            "spec": {"defaultNetwork": {"type": "OVNKubernetes"}},
        },
        _api_server("192.0.2.21", "192.0.2.22"),
        _node("worker-1", "192.0.2.11"),
        _node("worker-2", "192.0.2.12"),
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": _meta(name)} for name in projects),
        _scheduled(operator, "machine-config-daemon-5cf4b", "worker-1"),
        _scheduled("project1", "web", "worker-1"),
        _scheduled("default", "egress-router-pod", "worker-2"),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the manual."""
    place = tmp_path_factory.mktemp("files")
    rules = (("Allow", "cidrSelector", "1.2.3.0/24"), ("Allow", "dnsName", "www.example.com"))
    (place / "default.yaml").write_text(yaml.safe_dump(_firewall(*rules, ("Deny", "cidrSelector", "0.0.0.0/0"))))
    (place / "policy.yaml").write_text(yaml.safe_dump(_firewall(("Deny", "cidrSelector", "9.9.9.9/32"))))
    return place


@pytest.fixture(scope="module")
def cluster() -> Iterator[Terminal]:
    with terminal() as found:
        found.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(landscape()))
        yield found


def test_every_command_of_the_chapter_is_classified_once() -> None:
    classes = [set(TWINS), set(REFUSED), set(FOREIGN)]
    assert set(COMMANDS) == set().union(*classes)
    assert sum(map(len, classes)) == len(set(COMMANDS))
    assert len(COMMANDS) == 66


def test_the_twins_run_in_the_chapters_order(cluster: Terminal, folder: Path) -> None:
    """One after the other on one cluster, as an administrator who works through the chapter."""
    for number, command in enumerate(COMMANDS):
        twin = TWINS.get(command)
        if twin is None:
            continue
        if command.startswith("oc get pods mlistener"):  # the scheduler's part
            cluster.ok("patch", "pod", "mlistener", "-p", '{"spec": {"nodeName": "worker-2"}}')
            cluster.ok("wait", "pod/mlistener", "--for=jsonpath={.status.podIP}")
        words = tuple(word.replace("FOLDER", str(folder)) for word in twin.words)
        ran = cluster.run(*words, stdin=twin.stdin)
        assert ran.code == 0 and twin.check(ran.out), (number, command, ran)
        if command.endswith("> <filename>.yaml"):
            edited = yaml.safe_load(ran.out)
            edited["spec"]["egress"][0]["to"]["cidrSelector"] = "1.2.4.0/24"
            (folder / "read.yaml").write_text(yaml.safe_dump(edited))


@pytest.mark.parametrize("command", REFUSED)
def test_the_other_plug_in_is_refused_by_name(cluster: Terminal, command: str) -> None:
    ran = cluster.run(*REFUSED[command])
    assert ran.code == 1, (OTHER_PLUGIN, ran)
    assert "OpenShiftSDN" in ran.err or "openshiftSDNConfig" in ran.err


def test_kinds_that_come_later_are_refused_by_name(cluster: Terminal) -> None:
    ran = cluster.run("get", "MachineConfigPool")
    assert ran.code == 2 and "MachineConfigPool: no such kind" in ran.err
