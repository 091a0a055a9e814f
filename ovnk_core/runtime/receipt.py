"""What became of a request or of a source's content: one result per object, and the revision to wait for."""

from __future__ import annotations

from ovnk_core.cluster import Cluster
from ovnk_core.errors import ObjectError
from ovnk_core.ingest.outcome import Loaded
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value


class Result(Value, frozen=True, kw_only=True):
    """What became of one object of a batch. ``is_waiting``: it is in force, but there is no subnet or address for it
    yet, and ``errors`` say why."""

    ref: ObjectRef
    errors: tuple[ObjectError, ...] = ()
    is_waiting: bool = False

    @property
    def is_accepted(self) -> bool:
        return not self.errors or self.is_waiting


class Receipt(Value, frozen=True, kw_only=True):
    """``revision`` to wait for; unchanged when the batch was refused. ``results``: accepted objects first."""

    revision: int
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return all(result.is_accepted for result in self.results)


def receipt_of(cluster: Cluster, loaded: Loaded) -> Receipt:
    """The receipt of content that ``cluster`` has just taken in."""
    problems = cluster.problems
    accepted = [
        Result(
            ref=item.ref,
            errors=problems.get(item.ref, ()),
            is_waiting=item.ref in problems and item.ref not in cluster.refused,
        )
        for item in loaded.items
    ]
    refused = [Result(ref=each.ref, errors=each.errors) for each in loaded.refused]
    return Receipt(revision=cluster.engine.revision, results=(*accepted, *refused), warnings=remarks_of(loaded))


def remarks_of(loaded: Loaded) -> tuple[str, ...]:
    """Warnings of a load as text, and the kinds that were skipped."""
    unknown = (f"{kind}: unknown kind, skipped ({count})" for kind, count in loaded.unknown)
    return (*(f"{warning.source}: {warning.text}" for warning in loaded.warnings), *unknown)
