"""``create``, ``apply``, ``replace``, ``plan``, ``delete`` on a server: one request, all or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from ovnk_api.v1.diff_pb2 import ChangePlan, Outcome
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.northbound_pb2 import RowVerb
from ovnk_api.v1.object_service_pb2 import ApplyResponse, DeleteResponse, ObjectResult
from ovnk_client import Client, ClientError, NotFound, StageName
from ovnk_client.objects import Mode
from ovnk_wire import Kind, reference_of, to_manifest

from ovnk_cli.form import emit_objects
from ovnk_cli.online.answers import object_document, operation_document
from ovnk_cli.online.convergence import converge
from ovnk_cli.online.files import Stated, located
from ovnk_cli.online.names import Wanted, kind_meant, place_of, shown_reference
from ovnk_cli.online.read import Selection, check_names, missing_text
from ovnk_cli.output import emit, redaction, say, say_redaction, table
from ovnk_core.terms.struct import Value

T = TypeVar("T")
_WORDS: dict[Outcome.ValueType, str] = {
    Outcome.OUTCOME_CREATED: "created",
    Outcome.OUTCOME_CHANGED: "configured",
    Outcome.OUTCOME_UNCHANGED: "unchanged",
    Outcome.OUTCOME_DELETED: "deleted",
    Outcome.OUTCOME_ABSENT: "not found",
}


class Order(Value, frozen=True, kw_only=True):
    """How a change is made and told. ``stage`` None: do not wait for any."""

    output: str = "table"
    is_dry: bool = False
    stage: StageName | None = None
    timeout_s: float = 30.0


async def apply_stated(client: Client, stated: Sequence[Stated], mode: Mode, order: Order) -> int:
    """Apply what files state; the exit status. Raises ServerSaid with the lines of what is refused."""
    answer = await _placed(
        stated,
        lambda: client.apply([each.item for each in stated], mode=mode, validate_only=order.is_dry),
    )
    return await tell_applied(client, answer, order, changed="replaced" if mode == "replace" else "configured")


async def _placed(stated: Sequence[Stated], call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except ClientError as error:
        raise located(error, stated) from error


async def tell_applied(client: Client, answer: ApplyResponse, order: Order, *, changed: str = "configured") -> int:
    """A line for each object, then the wait that was asked for; the exit status."""
    await _tell(client, answer.results, order, changed=changed)
    if order.is_dry:
        _tell_plan(answer.plan, order)
    return await arrival(client, answer.revision, order)


async def arrival(client: Client, revision: int, order: Order) -> int:
    """The wait that was asked for, of changes up to ``revision`` (0: none was made); the exit status."""
    if order.is_dry or order.stage is None or not revision:
        return 0
    return await converge(client, revision, order.stage, order.timeout_s)


def warn(results: Iterable[ObjectResult]) -> None:
    """What the server remarks about what it accepted."""
    for each in results:
        for warning in each.warnings:
            say(f"warning: {shown_reference(each.reference)}: {warning}")


async def _tell(client: Client, results: Sequence[ObjectResult], order: Order, *, changed: str) -> None:
    dry = " (server dry run)" if order.is_dry else ""
    warn(results)
    if order.output == "name":
        for each in results:
            click.echo(shown_reference(each.reference))
    elif order.output in ("table", "wide"):
        for each in results:
            word = changed if each.outcome == Outcome.OUTCOME_CHANGED else _WORDS.get(each.outcome, "accepted")
            click.echo(f"{shown_reference(each.reference)} {word}{dry}")
    elif not order.is_dry:
        gone = (Outcome.OUTCOME_DELETED, Outcome.OUTCOME_ABSENT)
        kept = [each.reference for each in results if each.outcome not in gone]
        items = [to_manifest(await client.get(ref.kind, ref.name, namespace=ref.namespace)) for ref in kept]
        emit_objects(items, order.output, is_one=len(items) == 1)


def _tell_plan(plan: ChangePlan, order: Order) -> None:
    """What would change in the northbound."""
    document = plan_document(plan)
    if order.output in ("json", "yaml"):
        emit(document, order.output)
    elif order.output in ("table", "wide"):
        counts = [
            [each.table, RowVerb.Name(each.verb).removeprefix("ROW_VERB_").lower(), each.operations]
            for each in plan.counts
        ]
        if counts:
            click.echo()
            table(["ROWS", "VERB", "OPERATIONS"], counts)
        elif not plan.is_redacted:
            say("no row of the northbound would change")
    say_redaction(document)


def plan_document(plan: ChangePlan) -> dict[str, Any]:
    """A plan as ``-o json`` prints it."""
    return {
        "objects": [object_document(each) for each in plan.objects],
        "rows": [
            {
                "table": each.table,
                "verb": RowVerb.Name(each.verb).removeprefix("ROW_VERB_").lower(),
                "operations": each.operations,
            }
            for each in plan.counts
        ],
        "operations": [operation_document(each) for each in plan.operations],
        "complete": plan.is_complete and not plan.is_redacted,
        **redaction(plan.is_redacted),
    }


# ------------------------------------------------------------------------------------------- delete


class Doomed(Value, frozen=True, kw_only=True):
    """What is to be deleted. ``is_every``: all objects of the kinds, within the selection."""

    wanted: tuple[Wanted, ...] = ()
    stated: tuple[Stated, ...] = ()
    is_every: bool = False
    ignores_missing: bool = False


async def delete(client: Client, doomed: Doomed, selection: Selection, order: Order) -> int:
    """Delete objects, all or none; the exit status."""
    references = [reference_of(each.item) for each in doomed.stated]
    for each in doomed.wanted:
        references += await _references(client, each, doomed, selection)
    if not references:
        say("nothing to delete")
        return 0
    try:
        answer: DeleteResponse = await client.delete(
            references,
            validate_only=order.is_dry,
            allow_missing=doomed.ignores_missing,
        )
    except NotFound:
        await _tell_missing(client, references, selection)
        return 1
    told = [each for each in answer.results if each.outcome != Outcome.OUTCOME_ABSENT]
    await _tell(client, told, order, changed="configured")
    if order.is_dry:
        _tell_plan(answer.plan, order)
    return await arrival(client, answer.revision, order)


async def _references(client: Client, wanted: Wanted, doomed: Doomed, selection: Selection) -> list[ObjectReference]:
    kind = wanted.kind
    if wanted.names:
        check_names(selection)
        place = place_of(kind, selection.namespace)
        return [ObjectReference(kind=kind.name, namespace=place, name=name) for name in wanted.names]
    if not doomed.is_every and not selection.labels and not selection.fields:
        raise click.UsageError(f"name the {kind.plural} to delete, select them with -l, or give --all")
    found = client.objects(
        kind.name, namespace=selection.listed_in(kind), labels=selection.labels, fields=selection.fields
    )
    return [reference_of(item) async for item in found]


async def _tell_missing(client: Client, references: Sequence[ObjectReference], selection: Selection) -> None:
    """Which of them it was: the server says only that one is missing."""
    for ref in references:
        kind: Kind = kind_meant(ref.kind)
        try:
            await client.get(kind.name, ref.name, namespace=ref.namespace)
        except NotFound:
            say(f"ovnk: {missing_text(kind, ref.name, ref.namespace or selection.namespace)}")
    say("nothing was deleted: a request happens as a whole or not at all (--ignore-not-found)")
