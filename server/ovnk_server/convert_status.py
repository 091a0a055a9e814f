"""How far revisions and objects have come, as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovnk_api.v1 import meta_pb2
from ovnk_api.v1 import northbound_service_pb2 as pb

from ovnk_core.cluster import Cluster
from ovnk_core.errors import ObjectError
from ovnk_core.features.egress_firewall.verdict import dns_addresses
from ovnk_core.keeper.document import decode, object_key
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.stages import STAGES, StageName, Standing
from ovnk_core.model.egress_firewall import DnsName
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL
from ovnk_core.store.entry import Stored
from ovnk_core.terms.name import ObjectRef
from ovnk_server.convert import reference, timestamp, version
from ovnk_server.hearing import Hearing

Problems = Mapping[ObjectRef, Sequence[ObjectError]]

WORDS: dict[StageName, str] = {
    "accepted": "Accepted",
    "programmed": "Programmed",
    "realized": "Realized",
    "enforced": "Enforced",
}
_NUMBERS: dict[StageName, pb.Stage.ValueType] = {
    "accepted": pb.STAGE_ACCEPTED,
    "programmed": pb.STAGE_PROGRAMMED,
    "realized": pb.STAGE_REALIZED,
    "enforced": pb.STAGE_ENFORCED,
}
_WAITS: dict[StageName, tuple[str, str]] = {
    "accepted": ("NotAccepted", "there is no such revision yet"),
    "programmed": ("InProgress", "it is on its way to the northbound"),
    "realized": ("WaitingForNorthd", "ovn-northd has not acknowledged it"),
    "enforced": ("WaitingForChassis", "not every chassis has acknowledged it"),
}


def why_not(keeper: Keeper, standing: Standing, stage: StageName, *, is_told: bool) -> tuple[str, str]:
    """Why a stage is not reached: one word for programs, and a sentence. ``is_told``: the caller may read what the
    writer failed of."""
    if stage == "programmed" and standing.failure:
        return "WriterFailed", standing.failure if is_told else "the northbound cannot be written"
    if stage == "enforced" and not keeper.stages.has_chassis:
        return "NoChassis", "no chassis is registered, so nobody can enforce anything"
    return _WAITS[stage]


def stage_statuses(keeper: Keeper, standing: Standing, revision: int, *, is_told: bool) -> list[pb.StageStatus]:
    """Which stages a revision has reached, in order."""
    found: list[pb.StageStatus] = []
    for stage in STAGES:
        is_reached = keeper.stages.progress[stage].reached >= revision
        reason, message = ("", "") if is_reached else why_not(keeper, standing, stage, is_told=is_told)
        found.append(
            pb.StageStatus(
                stage=_NUMBERS[stage],
                is_reached=is_reached,
                reason=reason,
                message=message,
                reached_time=timestamp(keeper.stages.reached_at(stage, revision)),
            )
        )
    return found


def pending_firewalls(cluster: Cluster) -> set[ObjectRef]:
    """Firewalls with the condition DNSPending: some rule has no effect, because its name has no address."""
    known = cluster.engine.rows(DNS_DECISION)
    if all(dns_addresses(known.get(name), allow=True) for name in cluster.dns_names):
        return set()
    return {
        ObjectRef("EgressFirewall", key.namespace, key.name)
        for key, firewall in cluster.engine.rows(EGRESS_FIREWALL).items()
        if any(
            isinstance(rule.to, DnsName) and not dns_addresses(known.get(rule.to.name), allow=rule.allow)
            for rule in firewall.rules
        )
    }


def conditions_of(
    keeper: Keeper, ref: ObjectRef, stored: Stored, *, problems: Problems, hearing: Hearing
) -> pb.ObjectConditions | None:
    """Conditions of an object, or of one that is refused and was never accepted; None where the accepted one, which
    comes first, has told already. ``problems``: of the cluster, asked once for many objects."""
    is_refused_version = bool(decode(stored.value).faults)
    if is_refused_version and keeper.history.get(object_key(ref)) is not None:
        return None
    refused = keeper.plane.cluster.refused.get(ref)
    reasons = hearing.reasons(refused.errors) if refused is not None else ""
    conditions = [
        _condition("Accepted", not reasons, "Refused" if reasons else "Accepted", reasons),
        _condition("Refused", bool(reasons), "Refused" if reasons else "NotRefused", reasons),
    ]
    if not is_refused_version:
        waits = hearing.reasons(problems.get(ref, ())) if refused is None else ""
        standing = keeper.stages.standing()
        for stage in STAGES[1:]:
            is_reached = keeper.stages.progress[stage].reached >= stored.modified
            if waits:
                conditions.append(_condition(WORDS[stage], False, "Waiting", waits))
            elif is_reached:
                conditions.append(_condition(WORDS[stage], True, WORDS[stage], ""))
            else:
                conditions.append(_condition(WORDS[stage], False, *why_not(keeper, standing, stage, is_told=False)))
    return pb.ObjectConditions(
        reference=reference(ref), resource_version=version(stored.modified), conditions=conditions
    )


def _condition(type: str, holds: bool, reason: str, message: str) -> meta_pb2.Condition:
    return meta_pb2.Condition(type=type, status="True" if holds else "False", reason=reason, message=message)
