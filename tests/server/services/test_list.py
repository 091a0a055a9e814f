"""ObjectService.List through a real channel: filters, tokens, and pages that are one snapshot."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import object_service_pb2 as pb

from tests.kit import manifest as m
from tests.kit.served import Api, Stand, apply, delete_request, failure, listed, named

pytestmark = pytest.mark.asyncio


async def test_list_filters(api: Api) -> None:
    pods = [
        m.pod("a", "shop", metadata={"labels": {"app": "web", "tier": "front"}}, spec={"nodeName": "n1"}),
        m.pod("b", "shop", metadata={"labels": {"app": "db"}}, spec={"nodeName": "n2"}),
        m.pod("c", "lab", metadata={"labels": {"app": "web"}}),
    ]
    await apply(api, m.namespace(), m.namespace("lab"), *pods)
    assert await listed(api, kind="Pod") == ["lab/c", "shop/a", "shop/b"]
    assert await listed(api, kind="Pod", namespace="shop") == ["shop/a", "shop/b"]
    assert await listed(api, kind="Pod", label_selector="app in (web, cache), tier") == ["shop/a"]
    assert await listed(api, kind="Pod", label_selector="app=web,!tier") == ["lab/c"]
    assert await listed(api, kind="Pod", label_selector="app!=web") == ["shop/b"]
    assert await listed(api, kind="Pod", field_selector="spec.nodeName=n1") == ["shop/a"]
    assert await listed(api, kind="Pod", field_selector="spec.nodeName!=n1,metadata.namespace=shop") == ["shop/b"]
    assert await listed(api, kind="Pod", field_selector="spec.nodeName=") == ["lab/c"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"kind": ""}, "kind"),
        ({"kind": "pod"}, "kind"),
        ({"kind": "Pod", "label_selector": "app in web"}, "label_selector"),
        ({"kind": "Pod", "label_selector": "app=web,"}, "label_selector"),
        ({"kind": "Pod", "label_selector": "a b"}, "label_selector"),
        ({"kind": "Pod", "label_selector": "app=we b"}, "label_selector"),
        ({"kind": "Pod", "label_selector": "-=x"}, "label_selector"),
        ({"kind": "Pod", "field_selector": "metadata.name"}, "field_selector"),
        ({"kind": "Pod", "page_size": -1}, "page_size"),
        ({"kind": "Pod", "page_token": "nonsense"}, "page_token"),
    ],
)
async def test_a_list_that_cannot_be_asked(api: Api, asked: dict[str, Any], field: str) -> None:
    failed = await failure(api.objects.List(pb.ListRequest(**asked)))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]


async def test_a_token_belongs_to_its_question(api: Api) -> None:
    await apply(api, m.namespace(), m.namespace("lab"))
    page = await api.objects.List(pb.ListRequest(kind="Namespace", page_size=1))
    other = pb.ListRequest(kind="Namespace", page_size=1, page_token=page.next_page_token, label_selector="a")
    assert (await failure(api.objects.List(other))).violations[0][0] == "page_token"


async def test_pages_show_one_revision_while_everything_changes(stand: Stand, api: Api) -> None:
    """10,000 pods in pages, with an edit between any two: the reader sees the state at the first page, exactly."""
    await apply(api, m.namespace())
    for first in range(0, 10_000, 2_500):
        await apply(api, *(m.pod(f"p{number:05}") for number in range(first, first + 2_500)))
    expected = [f"shop/p{number:05}" for number in range(10_000)]
    found: list[str] = []
    token, revisions = "", set()
    for number in range(100):
        page = await api.objects.List(pb.ListRequest(kind="Pod", page_size=900, page_token=token))
        found += [f"shop/{each.pod.metadata.name}" for each in page.objects]
        assert all(not each.pod.metadata.labels for each in page.objects)
        revisions.add(page.revision)
        token = page.next_page_token
        if not token:
            break
        changed = m.pod(f"p{9_999 - number:05}", metadata={"labels": {"new": "yes"}})
        await apply(api, changed, m.pod(f"q{number}"))
        await api.objects.Delete(delete_request(named("Pod", f"p{9_000 + number:05}", "shop")))
    assert found == expected
    assert len(revisions) == 1


async def test_a_page_too_old_has_to_start_over(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace(), m.namespace("lab"))
    page = await api.objects.List(pb.ListRequest(kind="Namespace", page_size=1))
    await apply(api, m.namespace("watch"))
    stand.keeper.history.forget(stand.keeper.revision)
    failed = await failure(
        api.objects.List(pb.ListRequest(kind="Namespace", page_size=1, page_token=page.next_page_token))
    )
    assert (failed.code, failed.reason) == (StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
