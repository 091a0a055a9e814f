"""Identity: kinds, versions, lists, names used twice, and what parse_objects gives an embedding program."""

from __future__ import annotations

import io
from types import MappingProxyType
from typing import Any

import pytest

from ovnk_core.ingest.load import Loaded, load, parse_objects
from ovnk_core.ingest.parse import KIND_RULES, KindRule
from ovnk_core.model.cluster import Network, NetworkOperator
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.pod import Pod
from ovnk_core.terms.label import EVERYTHING, requirement, selector
from ovnk_core.terms.name import ObjectRef
from tests.kit.manifest import accept, namespace, network, network_operator, node, pod, policy, refuse


def refs(loaded: Loaded) -> list[str]:
    return [str(item.ref) for item in loaded.items]


def test_every_kind_has_its_reference() -> None:
    infrastructure = {"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"}}
    loaded = parse_objects([network(), network_operator(), infrastructure, node(), namespace(), pod(), policy()])
    assert refs(loaded) == [
        "Network cluster",
        "NetworkOperator cluster",
        "Infrastructure cluster",
        "Node node-1",
        "Namespace shop",
        "Pod shop/web",
        "NetworkPolicy shop/p",
    ]
    assert (loaded.refused, loaded.unbuilt, loaded.unknown) == ((), (), ())


def test_unknown_kinds_are_counted_never_fatal() -> None:
    raws: list[Any] = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}},
        {"apiVersion": "apps/v1", "kind": "Deployment"},
        {"apiVersion": "v1", "kind": "ConfigMap", "spec": 7},
        {"apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}},
        {"apiVersion": "config.openshift.io/v1", "kind": "DNS"},
        {"apiVersion": "apps/v1", "kind": "a\x1b[31mb"},
    ]
    loaded = parse_objects([*raws, pod()])
    assert refs(loaded) == ["Pod shop/web"]
    assert loaded.refused == ()
    assert loaded.unknown == (
        ("apps/v1 Deployment", 2),
        ("apps/v1 a\\x1b[31mb", 1),
        ("config.openshift.io/v1 DNS", 1),
        ("crd.projectcalico.org/v1 NetworkPolicy", 1),
        ("v1 ConfigMap", 1),
    )


UNBUILT = [
    ("k8s.ovn.org/v1", "EgressQoS", "a"),
    ("k8s.ovn.org/v1", "EgressService", "a"),
    ("network.operator.openshift.io/v1", "EgressRouter", "a"),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", ""),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", ""),
]


@pytest.mark.parametrize(("version", "kind", "place"), UNBUILT, ids=[case[1] for case in UNBUILT])
def test_kinds_that_could_change_a_verdict_are_remembered(version: str, kind: str, place: str) -> None:
    meta = {"name": "default", "namespace": "a"}
    loaded = parse_objects([{"apiVersion": version, "kind": kind, "metadata": meta}] * 2)
    assert loaded.unbuilt == (ObjectRef(kind, place, "default"),)
    assert loaded.unknown == ()


def test_the_same_kind_of_another_group_is_unknown() -> None:
    loaded = parse_objects([{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "a"}}])
    assert (loaded.unbuilt, loaded.unknown) == ((), (("serving.knative.dev/v1 Service", 1),))


NO_OBJECT = [
    ("text", "hello", "", "must be a mapping"),
    ("list", [], "", "must be a mapping"),
    ("number", 7, "", "must be a mapping"),
    ("no kind", {"apiVersion": "v1"}, "kind", "must name the kind"),
    ("kind number", {"apiVersion": "v1", "kind": 7}, "kind", "must name the kind"),
    ("no version", {"kind": "Pod"}, "apiVersion", "must name the group"),
    ("empty", {}, "kind", "must name the kind"),
    ("list without items", {"apiVersion": "v1", "kind": "List", "items": "x"}, "items", "must be a list"),
    ("endless kind", {"apiVersion": "v1", "kind": "x" * 70_000}, "kind", "longer than any kind"),
]


@pytest.mark.parametrize(
    ("raw", "path", "reason"), [case[1:] for case in NO_OBJECT], ids=[case[0] for case in NO_OBJECT]
)
def test_what_is_no_object_is_refused(raw: Any, path: str, reason: str) -> None:
    loaded = parse_objects([raw, pod()])
    (refused,) = loaded.refused
    assert refused.ref == ObjectRef("Object", "", "object#/0")
    assert refused.errors[0].path == path
    assert reason in refused.errors[0].reason
    assert refs(loaded) == ["Pod shop/web"]


@pytest.mark.parametrize("kind", ["pod", "POD", "node", "namespace"])
def test_a_known_kind_in_the_wrong_case_is_refused(kind: str) -> None:
    (refused,) = parse_objects([{"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}}]).refused
    assert ("kind", "unknown kind") in [(error.path, error.reason) for error in refused.errors]


@pytest.mark.parametrize("version", ["v2", "v1beta1"])
def test_another_version_of_a_known_kind_is_refused(version: str) -> None:
    raw = pod()
    raw["apiVersion"] = version
    assert [(error.path, error.fix) for error in refuse(raw).errors] == ([("apiVersion", "write v1")])


def test_metadata_of_a_wrong_type() -> None:
    raw = pod()
    raw["metadata"] = "web"
    assert [error.path for error in refuse(raw).errors] == ["metadata.name", "metadata"]


def test_generated_names_need_a_server() -> None:
    raw = pod()
    raw["metadata"] = {"generateName": "web-"}
    assert "generateName" in refuse(raw).errors[0].fix


def test_namespace_defaults() -> None:
    assert accept(pod(namespace=""), Pod).namespace == "default"


@pytest.mark.parametrize("rule", [rule for rule in KIND_RULES.values() if not rule.is_namespaced])
def test_namespace_is_dropped_from_cluster_kinds_with_a_warning(rule: KindRule) -> None:
    """As the API server does, which clears it."""
    ((group, kind),) = [each for each in KIND_RULES if KIND_RULES[each] is rule]
    raw: dict[str, Any] = {"apiVersion": f"{group}/v1".lstrip("/"), "kind": kind, "spec": {}}
    if kind == "Node":
        raw = node()
    elif kind == "EgressIP":
        raw["spec"] = {"egressIPs": ["192.0.2.9"], "namespaceSelector": {}}
    raw["metadata"] = {"name": "cluster", "namespace": "shop"}
    loaded = parse_objects([raw])
    assert [str(item.ref) for item in loaded.items] == [f"{rule.kind} cluster"], loaded.refused
    (warning,) = [each.text for each in loaded.warnings if "metadata.namespace" in each.text]
    assert warning == f"metadata.namespace: means nothing: no {rule.kind} belongs to a namespace"
    raw["metadata"] = {"name": "cluster", "namespace": ""}
    assert not [each for each in parse_objects([raw]).warnings if "metadata.namespace" in each.text]


def test_lists_are_flattened() -> None:
    inner = {"apiVersion": "v1", "kind": "List", "items": [pod("b"), pod("c")]}
    raw = {"apiVersion": "v1", "kind": "List", "items": [pod("a"), inner, pod("d")], "metadata": {}}
    loaded = parse_objects([raw])
    assert [item.ref.name for item in loaded.items] == ["a", "b", "c", "d"]
    assert str(loaded.items[2].source) == "object#/0/items/1/items/1"


@pytest.mark.parametrize("items", [[], None])
def test_empty_lists(items: Any) -> None:
    assert parse_objects([{"apiVersion": "v1", "kind": "List", "items": items}]).refused == ()


def test_typed_lists_give_their_items_a_kind() -> None:
    bare = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"hostNetwork": 1}}
    text = "apiVersion: v1\nkind: PodList\nitems:\n- metadata:\n    name: a\n- metadata:\n    name: b\n  spec: x\n"
    refused = parse_objects([{"apiVersion": "v1", "kind": "PodList", "items": [bare]}]).refused[0]
    assert refused.errors[0].source == "object#/0/items/0/spec/hostNetwork"
    loaded = load(["-"], stdin=io.BytesIO(text.encode()))
    assert refs(loaded) == ["Pod default/a"]
    assert loaded.refused[0].errors[0].source == "<stdin>:8"


LIST = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata:
    name: a
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    name: p
  spec:
    podSelector: {}
    podSelector: {matchLabels: {a: b}}
    ingress:
    - ports:
      - port: 0
- apiVersion: v1
  kind: Namespace
  metadata: {name: b}
"""


def test_positions_and_problems_in_a_yaml_list() -> None:
    loaded = load(["-"], stdin=io.BytesIO(LIST.encode()))
    assert [str(item.source) for item in loaded.items] == ["<stdin>:4", "<stdin>:18"]
    (refused,) = loaded.refused
    assert refused.source == "<stdin>:8"
    assert [(error.path, error.source) for error in refused.errors] == [
        ("spec.podSelector", "<stdin>:14"),
        ("spec.ingress[0].ports[0].port", "<stdin>:17"),
    ]
    assert refused.stand_in is not None
    assert refused.stand_in.subject == EVERYTHING


def test_a_problem_of_the_list_itself_is_not_lost() -> None:
    text = "apiVersion: v1\nkind: List\nitems: []\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
    loaded = load(["-"], stdin=io.BytesIO(text.encode()))
    (refused,) = loaded.refused
    assert (refused.ref.kind, refused.source) == ("File", "<stdin>:4")


def test_equal_objects_count_once() -> None:
    one, two = policy(), policy(metadata={"resourceVersion": "9", "annotations": {"note": "x"}})
    loaded = parse_objects([one, two, one])
    assert refs(loaded) == ["NetworkPolicy shop/p"]
    assert str(loaded.items[0].source) == "object#/0"


def test_warnings_of_equal_objects_are_said_once() -> None:
    assert len(parse_objects([policy({}), policy({})]).warnings) == 1


WEB = {"podSelector": {"matchLabels": {"app": "web"}}}
WEB_SELECTOR = selector([requirement("app", "In", ["web"])])


def test_different_objects_of_one_name_are_both_refused_with_both_sources() -> None:
    loaded = parse_objects([pod(metadata={"labels": {"a": "1"}}), pod("other"), pod(metadata={"labels": {"a": "2"}})])
    assert refs(loaded) == ["Pod shop/other"]
    (refused,) = loaded.refused
    assert refused.ref == ObjectRef("Pod", "shop", "web")
    assert [(error.source, error.reason) for error in refused.errors] == [
        ("object#/0", "declared more than once, differently: also at object#/2"),
        ("object#/2", "declared more than once, differently: also at object#/0"),
    ]
    assert refused.stand_in is None


CLASHES = [
    ("same subject", [{**WEB, "policyTypes": ["Ingress"]}, {**WEB, "ingress": [{}]}], WEB_SELECTOR, True, False),
    (
        "directions add up",
        [{**WEB, "policyTypes": ["Ingress"]}, {**WEB, "policyTypes": ["Egress"]}],
        WEB_SELECTOR,
        True,
        True,
    ),
    ("subjects differ", [WEB, {"podSelector": {"matchLabels": {"app": "db"}}}], EVERYTHING, True, False),
    ("good and bad", [WEB, {**WEB, "policyTypes": ["Egress"], "x": 1}], WEB_SELECTOR, True, True),
    ("bad and good", [{**WEB, "ingress": [None]}, {**WEB, "egress": [{}]}], WEB_SELECTOR, True, True),
    ("three", [WEB, {**WEB, "ingress": [{}]}, {"podSelector": {}, "policyTypes": ["Egress"]}], EVERYTHING, True, True),
]


@pytest.mark.parametrize(
    ("specs", "subject", "is_ingress", "is_egress"), [case[1:] for case in CLASHES], ids=[case[0] for case in CLASHES]
)
def test_a_clash_of_policies_isolates_what_either_would(
    specs: Any, subject: Any, is_ingress: bool, is_egress: bool
) -> None:
    loaded = parse_objects([policy(spec) for spec in specs])
    assert loaded.items == ()
    (refused,) = loaded.refused
    closed = refused.stand_in
    assert isinstance(closed, NetworkPolicy)
    assert (closed.subject, closed.is_ingress, closed.is_egress) == (subject, is_ingress, is_egress)
    assert (closed.ingress, closed.egress) == ((), ())
    assert closed.blocked
    assert {error.source.split("/")[1] for error in refused.errors} == {str(at) for at in range(len(specs))}


def test_a_third_equal_to_the_first_does_not_heal_a_clash() -> None:
    one, two = pod(metadata={"labels": {"a": "1"}}), pod(metadata={"labels": {"a": "2"}})
    loaded = parse_objects([one, two, one])
    assert loaded.items == ()
    assert len(loaded.refused) == 1


def test_many_clashes_of_one_name_are_bounded() -> None:
    loaded = parse_objects([pod(metadata={"labels": {"a": str(at)}}) for at in range(2000)])
    assert len(loaded.refused) == 1
    assert len(loaded.refused[0].errors) < 300


def test_the_two_network_kinds_do_not_clash() -> None:
    loaded = parse_objects([network(), network_operator()])
    assert [type(item.value) for item in loaded.items] == [Network, NetworkOperator]


def test_one_bad_object_stops_no_other() -> None:
    loaded = parse_objects([pod("a"), pod("B"), pod("c"), policy([]), namespace()])
    assert refs(loaded) == ["Pod shop/a", "Pod shop/c", "Namespace shop"]
    assert len(loaded.refused) == 2


def test_parse_objects_takes_any_mapping_and_names_its_source() -> None:
    loaded = parse_objects([MappingProxyType(pod())], source="request")
    assert refs(loaded) == ["Pod shop/web"]
    assert loaded.items[0].source.at("spec") == "request#/0/spec"
    assert loaded.bytes == 0
    assert loaded.seconds >= 0
