"""A firewall's status: OVN-Kubernetes' two sentences, and conditions that say what they leave out.

``Ready``: the declared rules are in force. ``Stale``: they were refused, and the version accepted last is enforced.
``Blocked``: they were refused and nothing was accepted before, so nothing leaves the namespace. ``DNSPending``: some
rule's DNS name was never answered; a Deny then denies nothing yet (it is not enforced), an Allow allows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ovnk_core.errors import ObjectError
from ovnk_core.features.egress_firewall.verdict import dns_addresses
from ovnk_core.model.decision import DnsDecision
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall
from ovnk_core.terms.struct import Value

APPLIED = "EgressFirewall Rules applied"
NOT_APPLIED = "EgressFirewall Rules not correctly applied"


class Condition(Value, frozen=True, kw_only=True):
    """As in the Kubernetes API: ``type`` holds or does not, with a reason in one word and a message for people."""

    type: str
    holds: bool
    reason: str
    message: str = ""

    @property
    def status(self) -> str:
        return "True" if self.holds else "False"


class FirewallStatus(Value, frozen=True, kw_only=True):
    """``text`` is ``APPLIED`` or ``NOT_APPLIED``; ``messages`` say why not, and what of it is not effective yet."""

    text: str
    messages: tuple[str, ...]
    conditions: tuple[Condition, ...]


def firewall_status(
    firewall: EgressFirewall | None,
    refusals: Sequence[ObjectError],
    dns: Callable[[str], DnsDecision | None],
) -> FirewallStatus:
    """Status of one firewall.

    ``firewall``: what is in force under its name, None if nothing is; ``refusals``: why its declared version was
    refused, empty if it was not; ``dns``: what a name stands for.
    """
    reasons = tuple(map(str, refusals)) or ((firewall.blocked,) if firewall is not None and firewall.blocked else ())
    pending = tuple(_pending(firewall, dns)) if firewall is not None else ()
    return FirewallStatus(
        text=NOT_APPLIED if reasons else APPLIED,
        messages=(*reasons, *pending),
        conditions=(
            _ready(reasons),
            Condition(
                type="DNSPending",
                holds=bool(pending),
                reason="NeverAnswered" if pending else "AllAnswered",
                message="; ".join(pending),
            ),
            _blocked(firewall, reasons),
            _stale(firewall, reasons),
        ),
    )


def _ready(reasons: tuple[str, ...]) -> Condition:
    if reasons:
        return Condition(type="Ready", holds=False, reason="Refused", message="; ".join(reasons))
    return Condition(type="Ready", holds=True, reason="RulesApplied", message=APPLIED)


def _blocked(firewall: EgressFirewall | None, reasons: tuple[str, ...]) -> Condition:
    if firewall is None or not firewall.blocked:
        return Condition(type="Blocked", holds=False, reason="NotBlocked")
    text = "nothing was accepted before, so nothing leaves the namespace except DNS to the pods' own nodes"
    return Condition(type="Blocked", holds=True, reason="NothingAccepted", message=f"{'; '.join(reasons)}: {text}")


def _stale(firewall: EgressFirewall | None, reasons: tuple[str, ...]) -> Condition:
    if firewall is None or firewall.blocked or not reasons:
        return Condition(type="Stale", holds=False, reason="UpToDate" if not reasons else "NothingAccepted")
    text = f"the version accepted last, with {len(firewall.rules):,} rules, is enforced"
    return Condition(type="Stale", holds=True, reason="LastAcceptedEnforced", message=f"{'; '.join(reasons)}: {text}")


def _pending(firewall: EgressFirewall, dns: Callable[[str], DnsDecision | None]) -> Iterator[str]:
    """A sentence for each rule whose name never had an address."""
    for index, rule in enumerate(firewall.rules):
        if isinstance(rule.to, DnsName) and not dns_addresses(dns(rule.to.name), allow=rule.allow):
            effect = "allows nothing" if rule.allow else "denies nothing"
            decision = dns(rule.to.name)
            why = "has no address" if decision is not None and decision.history else "was never answered"
            yield f"rule {index} ({rule.verdict} to {rule.to.name}) {effect} yet: the name {why}"


def status_manifest(status: FirewallStatus) -> dict[str, Any]:
    """The ``status`` of the object's manifest."""
    conditions = [
        {"type": each.type, "status": each.status, "reason": each.reason, "message": each.message}
        for each in status.conditions
    ]
    return {"status": status.text, "messages": list(status.messages), "conditions": conditions}
