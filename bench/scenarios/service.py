"""The service: calls against a bare echo of the same library, a large firewall to its commit, a watch of a hundred
clients, a restart with ten thousand objects.

Server and clients are processes of their own. Rates are of one run, one after the other, so their ratio is what counts;
CPU seconds are the server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from ovnk_api.v1 import object_service_pb2
from ovnk_client import Client
from ovnk_wire import from_manifest

from bench.measure import server_cpu_seconds
from tests.cli.command import PACKAGES, ROOT
from tests.kit.ovn import Daemon, OvsdbServer, short_directory
from tests.kit.random_policy import Manifest
from tests.kit.serving import ServerProcess
from tests.kit.shapes import shaped_firewall

CALLS, ROUNDS, CALLERS = 2_000, 3, 16
WATCHERS, CHANGES = 100, 200
OBJECTS, PER_REQUEST = 10_000, 500
ECHO_GOAL, FIREWALL_GOAL_S = 0.5, 1.5

ECHO = """
import asyncio, sys, grpc, grpc.aio
from ovnk_api.v1 import object_service_pb2 as pb

async def main():
    server = grpc.aio.server()
    echo = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=pb.ApplyRequest.FromString, response_serializer=pb.ApplyResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"Echo": echo}),))
    server.add_insecure_port(sys.argv[1])
    await server.start()
    await server.wait_for_termination()

async def answer(request, context):
    return pb.ApplyResponse(revision=len(request.items))

asyncio.run(main())
"""


def run() -> dict[str, Any]:
    """All figures."""
    with short_directory() as folder:
        calls = asyncio.run(_calls(folder))
    with short_directory() as folder:
        firewall = asyncio.run(_firewall(folder))
    with short_directory() as folder:
        fan_out = asyncio.run(_fan_out(folder))
    with short_directory() as folder:
        restart = asyncio.run(_restart(folder))
    goals = {
        f"Apply at least {ECHO_GOAL} of the echo's rate": calls["apply_to_echo"] >= ECHO_GOAL,
        f"8,000 rules committed in {FIREWALL_GOAL_S} s": firewall["median_s"] <= FIREWALL_GOAL_S,
    }
    return {"calls": calls, "firewall_8000": firewall, "fan_out": fan_out, "restart": restart, "goals": goals}


def _pod(number: int, version: int = 0) -> Manifest:
    metadata = {"name": f"p{number}", "namespace": "shop", "labels": {"app": "web", "version": str(version)}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1"}}


NODE: Manifest = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}


async def _rate(call: Callable[[int], Awaitable[Any]]) -> dict[str, float]:
    """Calls per second, one at a time and ``CALLERS`` at a time."""
    found = {}
    for callers in (1, CALLERS):
        numbers = iter(range(CALLS))

        async def caller(numbers: Any = numbers) -> None:
            for number in numbers:
                await call(number)

        started = perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        found[f"rate_{callers}"] = round(CALLS / (perf_counter() - started))
    return found


async def _calls(folder: Path) -> dict[str, Any]:
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    echo = Daemon("echo", ["env", f"PYTHONPATH={path}", sys.executable, "-c", ECHO, f"unix:{folder}/e"], folder)
    server = ServerProcess(folder, store="memory", options={"log-level": "error"})
    echo.start()
    server.start()
    await server.ready()
    # Requests are made beforehand: what is compared is the service, not the making of questions.
    requests = [
        object_service_pb2.ApplyRequest(
            items=[object_service_pb2.ApplyItem(object=from_manifest(_pod(n % 500, n))[0])],
        )
        for n in range(CALLS)
    ]
    rounds: dict[str, list[dict[str, float]]] = {"echo": [], "get": [], "apply": []}
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/e") as channel, server.client() as client:
            ask = channel.unary_unary(
                "/Echo/Echo",
                request_serializer=object_service_pb2.ApplyRequest.SerializeToString,
                response_deserializer=object_service_pb2.ApplyResponse.FromString,
            )
            stub = client.channel.unary_unary(
                "/ovnk_api.v1.ObjectService/Apply",
                request_serializer=object_service_pb2.ApplyRequest.SerializeToString,
                response_deserializer=object_service_pb2.ApplyResponse.FromString,
            )
            await client.apply([NODE, *(_pod(n) for n in range(500))])
            for _ in range(ROUNDS):
                rounds["echo"].append(await _rate(lambda n: ask(requests[n], wait_for_ready=True)))
                rounds["get"].append(await _rate(lambda n: client.get("Pod", f"p{n % 500}", namespace="shop")))
                rounds["apply"].append(await _rate(lambda n: stub(requests[n])))
        cpu = server_cpu_seconds(server.daemon.pid)
    finally:
        echo.stop()
        server.daemon.stop()
    best = {name: {key: max(each[key] for each in found) for key in found[0]} for name, found in rounds.items()}
    many = f"rate_{CALLERS}"
    return {
        **best,
        "apply_to_echo": round(best["apply"][many] / best["echo"][many], 2),
        "apply_to_echo_one_by_one": round(best["apply"]["rate_1"] / best["echo"]["rate_1"], 2),
        "get_to_echo": round(best["get"][many] / best["echo"][many], 2),
        "server_cpu_s": round(cpu, 2),
    }


async def _firewall(folder: Path) -> dict[str, Any]:
    with OvsdbServer(folder, "nb") as northbound:
        server = ServerProcess(folder, northbound=northbound.address, options={"log-level": "error"})
        server.start()
        await server.ready()
        seconds = []
        try:
            async with server.client() as client:
                await client.apply([NODE, _pod(1)])
                for seed in range(5):
                    made = shaped_firewall("realistic", 7_999, seed=seed)
                    made["metadata"]["namespace"] = "shop"
                    started = perf_counter()
                    await client.apply_and_wait(made)
                    seconds.append(perf_counter() - started)
            cpu = server_cpu_seconds(server.daemon.pid)
        finally:
            server.daemon.stop()
    ordered = sorted(seconds)
    return {
        "first_s": round(seconds[0], 2),
        "median_s": round(ordered[2], 2),
        "max_s": round(ordered[-1], 2),
        "server_cpu_s": round(cpu, 2),
    }


async def _fan_out(folder: Path) -> dict[str, Any]:
    server = ServerProcess(folder, store="memory", options={"log-level": "error"})
    server.start()
    await server.ready()
    received, synced = [0] * WATCHERS, [asyncio.Event() for _ in range(WATCHERS)]
    arrived = asyncio.Event()
    target = 0

    async def watch(number: int) -> None:
        async with Client(server.socket) as client, client.watch("Pod") as events:
            async for event in events:
                if event.type == "synced":
                    synced[number].set()
                elif event.type in ("added", "modified"):
                    received[number] += 1
                    if min(received) >= target:
                        arrived.set()

    try:
        tasks = [asyncio.create_task(watch(number)) for number in range(WATCHERS)]
        for event in synced:
            await event.wait()
        before = server_cpu_seconds(server.daemon.pid)
        async with server.client() as client:
            latencies = []
            for number in range(10):
                target = min(received) + 1
                arrived.clear()
                started = perf_counter()
                await client.apply(_pod(number, 1))
                await arrived.wait()
                latencies.append((perf_counter() - started) * 1e3)
            target = max(received) + CHANGES
            arrived.clear()
            started = perf_counter()
            for number in range(CHANGES // 20):
                await client.apply([_pod(n, number + 2) for n in range(20)])
            await arrived.wait()
            seconds = perf_counter() - started
        cpu = server_cpu_seconds(server.daemon.pid) - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        server.daemon.stop()
    events = WATCHERS * CHANGES
    return {
        "watchers": WATCHERS,
        "events": events,
        "events_per_s": round(events / seconds),
        "server_cpu_us_per_event": round(cpu / (events + 10 * WATCHERS) * 1e6),
        "one_change_to_all_p50_ms": round(sorted(latencies)[5], 1),
    }


async def _restart(folder: Path) -> dict[str, Any]:
    with OvsdbServer(folder, "nb") as northbound:
        server = ServerProcess(folder, northbound=northbound.address, options={"log-level": "error"})
        server.start()
        await server.ready()
        nodes: list[Manifest] = []
        for number in range(100):
            node = {**NODE, "metadata": {"name": f"n{number}"}}
            node["status"] = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number + 1}"}]}
            nodes.append(node)
        async with server.client() as client:
            await client.apply(nodes)
            revision = 0
            for first in range(0, OBJECTS, PER_REQUEST):
                pods = [_pod(number) for number in range(first, first + PER_REQUEST)]
                for number, pod in enumerate(pods, first):
                    pod["spec"]["nodeName"] = f"n{number % 100}"
                revision = (await client.apply(pods)).revision
            await client.wait(revision, "programmed", timeout_s=120)
        server.daemon.stop()
        started = perf_counter()
        server.start()
        await server.ready()
        ready_s = perf_counter() - started
        async with server.client() as client:
            waited = await client.wait(revision, "programmed", timeout_s=120)
            programmed_s = perf_counter() - started
            pending = (await client.pending()).total_size
        cpu = server_cpu_seconds(server.daemon.pid)
        server.daemon.stop()
    return {
        "objects": OBJECTS,
        "ready_s": round(ready_s, 2),
        "compared_with_the_northbound_s": round(programmed_s, 2) if waited.is_reached else -1,
        "operations_due": pending,
        "server_cpu_s": round(cpu, 2),
    }
