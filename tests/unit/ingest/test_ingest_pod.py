"""Pod and Namespace: addresses, phases, named ports, labels, logging."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnk_core.errors import LimitError
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.pod import ContainerPort, Pod
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.port import Transport
from tests.kit.manifest import accept, accepted, assert_refused, namespace, pod, refuse

NETWORKS = "k8s.ovn.org/pod-networks"
NETWORKS_PATH = f'metadata.annotations["{NETWORKS}"]'


def annotated(value: Any, **fields: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return pod(metadata={"annotations": {NETWORKS: text}}, **fields)


def texts(found: Pod) -> list[str]:
    return list(map(str, found.addresses))


def test_a_plain_pod() -> None:
    found = accept(pod(), Pod)
    assert found == Pod(name="web", namespace="shop")


def test_a_whole_pod() -> None:
    raw = annotated(
        {"default": {"ip_addresses": ["fd01::5/64", "10.128.0.5/23"], "mac_address": "0A:58:0a:80:00:05"}},
        spec={"nodeName": "node-1.example.com", "containers": [], "unknown": {"fields": "ignored"}},
        status={"phase": "Running", "podIPs": [{"ip": "10.9.9.9"}]},
    )
    raw["metadata"].update(labels={"app": "web"}, uid="u-1", creationTimestamp="2024-02-03T04:05:06+02:00")
    assert accept(raw, Pod) == Pod(
        name="web",
        namespace="shop",
        uid="u-1",
        created="2024-02-03T02:05:06Z",
        labels=(("app", "web"),),
        node="node-1.example.com",
        addresses=(parse_address("10.128.0.5"), parse_address("fd01::5")),
        mac="0a:58:0a:80:00:05",
    )


ADDRESSES = [
    ("older annotation", annotated({"default": {"ip_address": "10.128.0.5/23"}}), ["10.128.0.5"]),
    ("status list", pod(status={"podIPs": [{"ip": "10.128.0.6"}, {"ip": "fd01::6"}]}), ["10.128.0.6", "fd01::6"]),
    ("status single", pod(status={"podIP": "10.128.0.7"}), ["10.128.0.7"]),
    ("empty status", pod(status={"podIP": "", "podIPs": []}), []),
    ("other networks only", annotated({"ns/blue": {}}, status={"podIP": "10.128.0.8"}), ["10.128.0.8"]),
    ("empty annotation", annotated("", status={"podIP": "10.128.0.8"}), ["10.128.0.8"]),
    ("host network", pod(spec={"hostNetwork": True}, status={"podIP": "192.0.2.1"}), []),
]


@pytest.mark.parametrize(("raw", "expected"), [case[1:] for case in ADDRESSES], ids=[case[0] for case in ADDRESSES])
def test_where_addresses_come_from(raw: Any, expected: list[str]) -> None:
    assert texts(accept(raw, Pod)) == expected


@pytest.mark.parametrize(
    ("phase", "is_completed"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True), ("", False)],
)
def test_phase(phase: str, is_completed: bool) -> None:
    assert accept(pod(status={"phase": phase}), Pod).is_completed is is_completed


def test_host_network() -> None:
    assert accept(pod(spec={"hostNetwork": True}), Pod).is_host_network is True
    assert accept(pod(spec={"hostNetwork": None}), Pod).is_host_network is False


def port(name: str, number: int, protocol: Transport = "TCP") -> ContainerPort:
    return ContainerPort(name=name, protocol=protocol, number=number)


def test_named_ports_of_containers_and_sidecars_in_order() -> None:
    spec = {
        "initContainers": [
            {"restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9000}]},
            {"ports": [{"name": "setup", "containerPort": 1}]},
        ],
        "containers": [
            {"ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]},
            {
                "ports": [
                    {"name": "web", "containerPort": 8080},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                ]
            },
            {"ports": None},
        ],
    }
    assert accept(pod(spec=spec), Pod).ports == (
        port("web", 80),
        port("web", 8080),
        port("dns", 53, "UDP"),
        port("metrics", 9000),
    )


def container(entry: Any) -> Any:
    return pod(spec={"containers": [{"ports": [entry]}]})


def one(**entry: Any) -> Any:
    return {"default": entry}


PORT = "spec.containers[0].ports[0]"
BAD = [
    ("annotation not JSON", annotated("{'default'}"), NETWORKS_PATH, "not JSON"),
    ("annotation list", annotated([]), NETWORKS_PATH, "must be a mapping"),
    ("annotation default", annotated({"default": []}), f"{NETWORKS_PATH}.default", "must be a mapping"),
    (
        "annotation no prefix",
        annotated(one(ip_addresses=["10.0.0.5"])),
        f"{NETWORKS_PATH}.default.ip_addresses[0]",
        "no p",
    ),
    ("annotation zeros", annotated(one(ip_address="10.0.0.05/23")), f"{NETWORKS_PATH}.default.ip_address", "leading"),
    ("annotation MAC", annotated(one(mac_address="x")), f"{NETWORKS_PATH}.default.mac_address", "not a MAC"),
    (
        "two of a family",
        annotated(one(ip_addresses=["10.0.0.5/23", "10.0.0.6/23"])),
        f"{NETWORKS_PATH}.default",
        "more",
    ),
    ("annotations text", pod(metadata={"annotations": "x"}), "metadata.annotations", "must be a mapping"),
    (
        "status two of a family",
        pod(status={"podIPs": [{"ip": "10.0.0.5"}, {"ip": "10.0.0.6"}]}),
        "status.podIPs",
        "more",
    ),
    ("status mapped", pod(status={"podIP": "::ffff:10.0.0.5"}), "status.podIP", "IPv4-mapped"),
    ("status entry", pod(status={"podIPs": ["10.0.0.5"]}), "status.podIPs[0]", "must be a mapping"),
    ("phase", pod(status={"phase": "running"}), "status.phase", "must be one of"),
    ("host network text", pod(spec={"hostNetwork": "true"}), "spec.hostNetwork", "true or false"),
    ("node name", pod(spec={"nodeName": 'a"b'}), "spec.nodeName", "not a valid node name"),
    ("spec list", pod(spec=[]), "spec", "must be a mapping"),
    ("containers mapping", pod(spec={"containers": {}}), "spec.containers", "must be a list"),
    ("container text", pod(spec={"containers": ["x"]}), "spec.containers[0]", "must be a mapping"),
    ("port 0", container({"name": "a", "containerPort": 0}), f"{PORT}.containerPort", "from 1 to 65535"),
    ("port 65536", container({"name": "a", "containerPort": 65536}), f"{PORT}.containerPort", "from 1 to 65535"),
    ("port text", container({"name": "a", "containerPort": "80"}), f"{PORT}.containerPort", "whole number"),
    ("port missing", container({"name": "a"}), f"{PORT}.containerPort", "missing"),
    ("port name", container({"name": "A", "containerPort": 1}), f"{PORT}.name", "port name"),
    ("port protocol", container({"name": "a", "containerPort": 1, "protocol": "udp"}), f"{PORT}.protocol", "unknown"),
    ("uid", pod(metadata={"uid": 'a"b'}), "metadata.uid", "letters, digits"),
    ("created", pod(metadata={"creationTimestamp": "yesterday"}), "metadata.creationTimestamp", "RFC 3339"),
    (
        "created without zone",
        pod(metadata={"creationTimestamp": "2024-01-01T00:00:00"}),
        "metadata.creationTimestamp",
        "R",
    ),
    ("labels list", pod(metadata={"labels": []}), "metadata.labels", "must be a mapping"),
]


@pytest.mark.parametrize(("raw", "path", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_pod_refused(raw: Any, path: str, reason: str) -> None:
    assert_refused(raw, path, reason)


def test_port_name_twice_in_one_container() -> None:
    ports = [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]
    assert_refused(pod(spec={"containers": [{"ports": ports}]}), "spec.containers[0].ports[1].name", "twice")


GOOD_LABELS = [
    ("plain", "app", "web"),
    ("empty value", "app", ""),
    ("prefix", "app.kubernetes.io/name", "web-1_2.3"),
    ("longest", f"{'a' * 253}/{'b' * 63}", "c" * 63),
    ("number-like text", "version", "010"),
]


@pytest.mark.parametrize(("key", "value"), [case[1:] for case in GOOD_LABELS], ids=[case[0] for case in GOOD_LABELS])
def test_label_accepted(key: str, value: str) -> None:
    assert accept(pod(metadata={"labels": {key: value}}), Pod).labels == ((key, value),)


HOSTILE = ['a"b', "a' || ip4", "a\nb", "a\n", "a$b", "{a}", "a b", "ü", "\x00", "a\\", "-a", "a-", "a/"]
BAD_LABELS = [
    *((f"key {at}", {text: "x"}, "not a label key") for at, text in enumerate(HOSTILE)),
    *((f"value {at}", {"a": text}, "not a label value") for at, text in enumerate(HOSTILE)),
    ("key empty", {"": "x"}, "not a label key"),
    ("key without name", {"a.b/": "x"}, "not a label key"),
    ("key bad prefix", {"A_b/c": "x"}, "not a DNS subdomain"),
    ("key name of 64", {"a" * 64: "x"}, "longer than 63"),
    ("key prefix of 254", {f"{'a' * 254}/b": "x"}, "not a label key"),
    ("key of 64 KiB", {"a" * 65536: "x"}, "longer than"),
    ("value of 64", {"a": "x" * 64}, "longer than 63"),
    ("value of 64 KiB", {"a": "x" * 65536}, "longer than 63"),
    ("value number", {"a": 5}, "must be text"),
    ("value true", {"a": True}, "must be text"),
    ("value null", {"a": None}, "must be text"),
]


@pytest.mark.parametrize(("labels", "reason"), [case[1:] for case in BAD_LABELS], ids=[case[0] for case in BAD_LABELS])
def test_label_refused(labels: Any, reason: str) -> None:
    for raw in (pod(metadata={"labels": labels}), namespace(metadata={"labels": labels})):
        errors = refuse(raw).errors
        assert len(errors) == 1
        assert reason in errors[0].reason
        assert errors[0].path.startswith("metadata.labels")
        assert len(str(errors[0])) < 600
        assert str(errors[0]).isprintable()


def test_too_long_is_a_limit() -> None:
    assert isinstance(refuse(pod(metadata={"labels": {"a": "x" * 64}})).errors[0], LimitError)


def test_64_kib_of_valid_labels_are_accepted() -> None:
    labels = {f"example.com/key-{at:04}": f"value-{at:04}" + "v" * 40 for at in range(1000)}
    assert sum(len(key) + len(value) for key, value in labels.items()) > 64 << 10
    assert dict(accept(pod(metadata={"labels": labels}), Pod).labels) == labels


NAME_LABEL = "kubernetes.io/metadata.name"


def test_namespace_carries_its_name_as_a_label() -> None:
    assert accept(namespace(), Namespace).labels == ((NAME_LABEL, "shop"),)
    loaded = accepted(namespace(metadata={"labels": {NAME_LABEL: "other", "a": "b"}}))
    found = loaded.items[0].value
    assert isinstance(found, Namespace)
    assert found.labels == (("a", "b"), (NAME_LABEL, "shop"))
    assert NAME_LABEL in loaded.warnings[0].text


LOGGING = [
    ("both", '{"allow":"info","deny":"alert"}', ("info", "alert"), 0),
    ("one", '{"deny":"warning"}', ("", "warning"), 0),
    ("empty text", "", ("", ""), 0),
    ("empty object", "{}", ("", ""), 0),
    ("null key", '{"allow":null,"deny":"debug"}', ("", "debug"), 0),
    ("bad severity turns off its key only", '{"allow":"loud","deny":"notice"}', ("", "notice"), 1),
    ("severity of another type", '{"allow":{"a":1},"deny":"notice"}', ("", "notice"), 1),
    ("not JSON", "info", ("", ""), 1),
    ("list", "[]", ("", ""), 1),
]


@pytest.mark.parametrize(
    ("text", "expected", "warned"), [case[1:] for case in LOGGING], ids=[case[0] for case in LOGGING]
)
def test_acl_logging(text: str, expected: tuple[str, str], warned: int) -> None:
    loaded = accepted(namespace(metadata={"annotations": {"k8s.ovn.org/acl-logging": text}}))
    found = loaded.items[0].value
    assert isinstance(found, Namespace)
    assert (found.log_allow, found.log_deny) == expected
    assert len(loaded.warnings) == warned


@pytest.mark.parametrize("name", ["a.b", "A", 'a"b', "a" * 64, "a\n"])
def test_namespace_names_are_labels(name: str) -> None:
    assert_refused(namespace(name=name), "metadata.name", "RFC 1123 label")
