"""Fields that a message does not know are found wherever they are, and nothing else is."""

from __future__ import annotations

import pytest
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_wire import from_manifest, unknown_field

from tests.kit import manifest as m

POLICY = m.policy(
    {"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"ports": [{"port": 80}, {"port": "http"}]}]}
)


def request() -> pb.ApplyRequest:
    return pb.ApplyRequest(items=[pb.ApplyItem(object=from_manifest(each)[0]) for each in (m.pod(), POLICY)])


def test_a_message_whose_fields_are_all_known() -> None:
    assert unknown_field(request()) is None
    assert unknown_field(pb.ApplyRequest()) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "items[1]",
        "items[0].object.pod.metadata",
        "items[1].object.network_policy.spec.ingress[0].ports[1].port",
    ],
)
def test_the_first_unknown_field_is_named(path: str) -> None:
    asked = request()
    owner = asked
    for step in filter(None, path.split(".")):
        name, _, index = step.partition("[")
        owner = getattr(owner, name)
        if index:
            owner = owner[int(index[:-1])]
    owner.MergeFromString(b"\xfa\x7f\x01x")
    copy = pb.ApplyRequest.FromString(asked.SerializeToString())
    assert unknown_field(copy) == (path, 2047)
    assert copy.SerializeToString() == asked.SerializeToString(), "asking changes nothing"
