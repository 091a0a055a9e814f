"""The client with the real server: apply and wait, a watch across a restart, sources, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from ovnk_api.v1.diff_pb2 import Outcome
from ovnk_api.v1.trace_service_pb2 import TraceManyRequest
from ovnk_api.v1.verdict_pb2 import Verdict
from ovnk_client import Client, Conflict, DeadlineExceeded, Exists, NotFound, Refused, question, reference
from ovnk_wire import to_manifest

from ovnk_core.ingest.document import FileReader, find
from ovnk_core.ingest.yaml_reader import Document
from tests.cli.command import SHOP
from tests.kit.ovn import short_directory
from tests.kit.serving import ServerProcess


def manifests() -> list[dict[str, Any]]:
    """The example's objects."""
    reader = FileReader(stdin=None, max_file_bytes=1 << 20, progress=None)
    return [each.value for each in reader.documents(find([SHOP]).files) if isinstance(each, Document)]


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with short_directory() as directory:
        found = ServerProcess(directory)
        found.start()
        try:
            yield found
        finally:
            found.daemon.stop()


@pytest_asyncio.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    await server.ready()
    async with server.client() as found:
        yield found


@pytest.mark.asyncio
async def test_objects_there_and_back(client: Client) -> None:
    applied = await client.apply_and_wait(manifests(), stage="programmed")
    assert {each.outcome for each in applied.results} == {Outcome.OUTCOME_CREATED}
    listed = [each async for page in client.list("pods", page_size=2) for each in page.objects]
    assert [each.pod.metadata.name for each in listed] == [
        "bank-router",
        "prometheus",
        "gateway",
        "cart",
        "db",
        "web-1",
        "web-2",
    ]
    found = await client.get("ns", "shop")
    again = await client.apply(found)
    assert again.results[0].outcome == Outcome.OUTCOME_UNCHANGED
    changed = to_manifest(found)
    changed["metadata"]["labels"]["new"] = "yes"
    await client.apply(changed)
    with pytest.raises(Conflict):
        await client.apply(changed | {"metadata": changed["metadata"] | {"labels": {}}})
    with pytest.raises(Exists):
        await client.apply(namespace("shop"), mode="create")
    with pytest.raises(NotFound):
        await client.delete(reference("pod", "nobody", "shop"))
    with pytest.raises(DeadlineExceeded, match="accepted at revision"):
        await client.apply_and_wait(namespace("late"), stage="realized", timeout_s=0.1)


@pytest.mark.asyncio
async def test_questions(client: Client) -> None:
    await client.apply(manifests())
    answer = await client.trace("shop/cart", "shop/db:5432")
    assert (answer.verdict, answer.steps[-1].field_path) == (Verdict.VERDICT_ALLOW, "spec.ingress[0]")
    questions = {str(port): question("shop/cart", "shop/db", port=port) for port in range(1, 40)}
    asked = (TraceManyRequest(id=name, question=each) for name, each in questions.items())
    assert [each.id async for each in client.trace_many(asked)] == list(questions)
    parts = [part async for part in client.matrix(port=5432, namespace="shop")]
    assert len(parts) == 1 + len(parts[0].targets.pods)
    closing = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]},
    }
    assert (await client.diff(closing)).connections
    assert [row async for row in client.rows(table="ACL")] and [flow async for flow in client.flows()]
    assert (await client.pending()).total_size >= 0
    status = await client.status()
    assert status.writer.is_self and status.accepted_revision > 0
    assert (await client.events()).events and (await client.info()).versions.api == "v1"
    assert await client.features()
    assert [each.name async for each in client.dns_names()] == ["packages.example.com"]
    with pytest.raises(NotFound):
        await client.dns("nobody.example.com")
    with pytest.raises(Refused):
        await client.trace("shop/nobody", "shop/db:1")


@pytest.mark.asyncio
async def test_a_watch_outlives_the_server(server: ServerProcess, client: Client) -> None:
    """Killed and started again while changes go on: every label comes once, in order."""
    seen: list[str] = []
    begun = asyncio.Event()

    async def follow() -> None:
        async with client.watch("ns", sends_initial=True) as events:
            async for event in events:
                assert event.type != "resync"
                if event.type == "synced":
                    begun.set()
                elif event.object is not None:
                    seen.append(event.object.namespace.metadata.labels["n"])
                    if len(seen) == 30:
                        return

    follower = asyncio.create_task(follow())
    await begun.wait()
    for number in range(30):
        if number in (10, 20):
            server.daemon.kill()
            server.start()
        await client.apply(namespace("counted", n=str(number)))
    await asyncio.wait_for(follower, 30)
    assert seen == [str(number) for number in range(30)]


@pytest.mark.asyncio
async def test_a_change_survives_the_loss_of_its_reply(server: ServerProcess, client: Client) -> None:
    """The server dies while changes are on their way: each is made once, whoever heard of it."""
    tasks = [asyncio.create_task(client.apply(namespace(f"n{number}"))) for number in range(20)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    server.daemon.kill()
    server.start()
    answers = await asyncio.gather(*tasks)
    assert all(answer.results[0].outcome == Outcome.OUTCOME_CREATED for answer in answers)
    assert len([each async for each in client.objects("ns")]) == 20


@pytest.mark.asyncio
async def test_a_source_states_its_truth(client: Client) -> None:
    async with client.sync("lab") as session:
        for number in range(10):
            await session.put(namespace(f"s{number}"))
        unknown = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        await session.put(unknown | {"metadata": {"name": "odd", "namespace": "s1"}, "spec": {"podSelector": 7}})
        outcome = await session.complete()
        assert outcome.is_done and outcome.objects == 0
        assert list(session.refusals) == [("NetworkPolicy", "s1", "odd")]
        await session.remove(reference("ns", "s9"))
        revision = await session.settled()
        assert revision == (await client.status()).accepted_revision
    assert len([each async for each in client.objects("ns")]) == 9

    async with client.sync("lab") as session:
        await session.put(namespace("s0"))
        outcome = await session.complete()
        assert not outcome.is_done and outcome.message
    assert len([each async for each in client.objects("ns")]) == 9

    async with client.sync("lab", allow_prune=True) as session:
        await session.put(namespace("s0"))
        assert (await session.complete()).is_done
    assert [each.namespace.metadata.name async for each in client.objects("ns")] == ["s0"]


@pytest.mark.asyncio
async def test_a_session_that_was_superseded_says_so(client: Client) -> None:
    async with client.sync("lab") as first:
        await first.put(namespace("a"))
        await first.settled()
        async with client.sync("lab") as second:
            await second.put(namespace("b"))
            await second.settled()
            with pytest.raises(Conflict):
                while True:
                    await first.put(namespace("c"))
                    await first.settled()
