"""DNS names that egress firewalls speak of: answers of a feed, and what is known of names.

Names are those of firewalls: whoever may not read a firewall does not learn which names it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ovnk_api.v1 import dns_service_pb2 as pb
from ovnk_api.v1 import dns_service_pb2_grpc

from ovnk_core.allocate.dns import addresses_at
from ovnk_core.errors import NotFound, SchemaError
from ovnk_core.ingest.text import show
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.model.decision import MAX_DNS_ADDRESSES, DnsAnswer, DnsDecision, DnsOutcome
from ovnk_core.model.egress_firewall import DnsName
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL
from ovnk_core.runtime.asking import name_of
from ovnk_core.runtime.resolver import NameStatus
from ovnk_core.terms.address import Address, Family, parse_address
from ovnk_core.terms.name import ObjectRef
from ovnk_server import access
from ovnk_server.convert import MAX_ITEMS, page_size, seconds, timestamp

_KIND = "DnsName"
_OUTCOMES: Mapping[int, DnsOutcome] = {
    pb.DNS_OUTCOME_UNSPECIFIED: "answer",
    pb.DNS_OUTCOME_ANSWER: "answer",
    pb.DNS_OUTCOME_NXDOMAIN: "nxdomain",
    pb.DNS_OUTCOME_NODATA: "nodata",
    pb.DNS_OUTCOME_SERVFAIL: "servfail",
    pb.DNS_OUTCOME_REFUSED: "refused",
    pb.DNS_OUTCOME_TIMEOUT: "timeout",
    pb.DNS_OUTCOME_UNREACHABLE: "unreachable",
    pb.DNS_OUTCOME_MALFORMED: "malformed",
}
_FAMILIES: Mapping[int, Family | None] = {
    pb.ADDRESS_FAMILY_UNSPECIFIED: None,
    pb.ADDRESS_FAMILY_IPV4: 4,
    pb.ADDRESS_FAMILY_IPV6: 6,
}
_CAUSES: Mapping[str, pb.DnsCause.ValueType] = {
    "answer": pb.DNS_CAUSE_ANSWER,
    "nxdomain": pb.DNS_CAUSE_NXDOMAIN,
    "nodata": pb.DNS_CAUSE_NODATA,
    "expired": pb.DNS_CAUSE_EXPIRED,
    "pushed": pb.DNS_CAUSE_PUSHED,
}


class DnsService(dns_service_pb2_grpc.DnsServiceServicer):
    """See ``dns_service.proto``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def PushAnswers(self, request: pb.PushAnswersRequest, context: Any) -> pb.PushAnswersResponse:
        access.caller().require("dns", _KIND)
        if len(request.answers) > MAX_ITEMS:
            raise SchemaError(
                f"may hold at most {MAX_ITEMS:,} answers", path="answers", value=str(len(request.answers))
            )
        answers = [_read_answer(each, f"answers[{index}]") for index, each in enumerate(request.answers)]
        revision, ignored = await self._keeper.push_dns(answers)
        passed_over = set(ignored)
        accepted = sum(name_of(each.name) not in passed_over for each in answers)
        return pb.PushAnswersResponse(revision=revision, accepted=accepted, ignored_names=ignored)

    async def GetName(self, request: pb.GetNameRequest, context: Any) -> pb.GetNameResponse:
        who, keeper = access.caller(), self._keeper
        name = name_of(request.name)
        if not _may_read_all(who) and name not in self._readable(who):
            raise access.PermissionDenied(f"{who.identity or 'nobody'} may not read the name {name}")
        decision = keeper.plane.cluster.engine.rows(DNS_DECISION).get(name)
        status = self._statuses().get(name)
        if decision is None and status is None:
            raise NotFound(f"{name} was never answered, and no firewall speaks of it")
        at_s = seconds(request, "at")
        found = _name(name, decision or DnsDecision(), at_s)
        found.is_on_record = decision is not None and (at_s is None or addresses_at(decision, at_s) is not None)
        found.revision = keeper.revision
        if status is not None:
            found.status.CopyFrom(status)
        return pb.GetNameResponse(name=found)

    async def ListNames(self, request: pb.ListNamesRequest, context: Any) -> pb.ListNamesResponse:
        who = access.caller()
        statuses = self._statuses()
        names = sorted(statuses) if _may_read_all(who) else sorted(statuses.keys() & self._readable(who))
        limit = page_size(request.page_size)
        # A name is a place to go on at, whatever became of the others meanwhile.
        rest = [name for name in names if name > request.page_token]
        return pb.ListNamesResponse(
            names=[statuses[name] for name in rest[:limit]],
            next_page_token=rest[limit - 1] if len(rest) > limit else "",
            total_size=len(names),
        )

    def _statuses(self) -> dict[str, pb.DnsNameStatus]:
        """Every name that a firewall speaks of. Only the server that writes asks for names: on the others a name's
        status says what is on record."""
        plane = self._keeper.plane
        if self._keeper.term is not None:
            return {name: _status(each) for name, each in plane.dns_status().items()}
        known = plane.cluster.engine.rows(DNS_DECISION)
        return {name: pb.DnsNameStatus(name=name, is_answered=name in known) for name in plane.cluster.dns_names}

    def _readable(self, who: access.Caller) -> set[str]:
        """Names that firewalls speak of which the caller may read."""
        sees = who.visible("get")
        return {
            rule.to.name
            for key, firewall in self._keeper.plane.cluster.engine.rows(EGRESS_FIREWALL).items()
            if sees(ObjectRef("EgressFirewall", key.namespace, key.name))
            for rule in firewall.rules
            if isinstance(rule.to, DnsName)
        }


def _may_read_all(who: access.Caller) -> bool:
    return who.may("dns", _KIND) or who.may("get", _KIND)


def _read_answer(message: pb.DnsAnswer, field: str) -> DnsAnswer:
    """Raises SchemaError."""
    if message.outcome not in _OUTCOMES:
        raise SchemaError("no such outcome", path=f"{field}.outcome", value=str(message.outcome))
    if message.family not in _FAMILIES:
        raise SchemaError("no such family", path=f"{field}.family", value=str(message.family))
    if len(message.addresses) > MAX_DNS_ADDRESSES:
        reason = f"may hold at most {MAX_DNS_ADDRESSES:,} addresses"
        raise SchemaError(reason, path=f"{field}.addresses", value=str(len(message.addresses)))
    ttl_s = seconds(message, "ttl") or 0.0
    if ttl_s < 0:
        raise SchemaError("must not be negative", path=f"{field}.ttl", value=f"{ttl_s:g} s")
    try:
        name_of(message.name)
    except SchemaError as error:
        raise SchemaError(error.reason, path=f"{field}.name", value=error.value) from None
    return DnsAnswer(
        name=message.name,
        outcome=_OUTCOMES[message.outcome],
        addresses=tuple(
            _read_address(text, f"{field}.addresses[{index}]") for index, text in enumerate(message.addresses)
        ),
        ttl_s=ttl_s,
        family=_FAMILIES[message.family],
        reason=show(message.reason) if message.reason else "",
    )


def _read_address(text: str, field: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise SchemaError(str(error), path=field, value=show(text)) from None


def _name(name: str, decision: DnsDecision, at_s: float | None) -> pb.DnsName:
    found = pb.DnsName(name=name)
    for change in decision.history:
        found.history.add(at=timestamp(change.at_s), cause=_CAUSES[change.cause], addresses=map(str, change.addresses))
    if at_s is not None:
        found.addresses.extend(map(str, addresses_at(decision, at_s) or ()))
        return found
    found.addresses.extend(map(str, decision.live))
    found.deny_addresses.extend(map(str, decision.sticky))
    for address, end_s in decision.leaving:
        found.leaving.add(address=str(address), end_time=timestamp(end_s))
    return found


def _status(each: NameStatus) -> pb.DnsNameStatus:
    return pb.DnsNameStatus(
        name=each.name,
        due_time=None if math.isinf(each.due_s) else timestamp(each.due_s),
        heard_time=timestamp(each.heard_s),
        failed_time=timestamp(each.failed_s),
        failure=each.failure,
        failures=each.failures,
        is_answered=each.is_answered,
        warnings=each.warnings,
    )
