"""Random EgressFirewalls: nested and overlapping prefixes, DNS names, node selectors and ports from small alphabets.

``FirewallMaker`` draws from one ``random.Random``; addresses worth cutting a prefix around come from the caller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from ovnk_core.model.decision import DnsChange, DnsDecision
from ovnk_core.terms.address import Address, parse_address
from tests.kit.random_policy import Manifest

DNS_NAMES = ("www.example.com", "db.example.com", "mail.example.org", "never.example.net")
"""The last one is never answered."""
OUTSIDE = {
    4: ("203.0.113.0", "198.51.100.128", "8.8.8.8", "100.64.0.2", "172.30.0.10"),
    6: ("2001:db8:ffff::", "fd98::9"),
}
LENGTHS = {4: (0, 0, 8, 16, 24, 25, 30, 32, 32, 32), 6: (0, 0, 32, 48, 64, 65, 127, 128, 128, 128)}
PORTS = (53, 80, 443, 8080)
PROTOCOLS = ("TCP", "UDP", "SCTP")


class FirewallMaker:
    """Makes firewalls and DNS answers."""

    def __init__(self, rng: random.Random, numbers: Callable[[], Sequence[int]], address: Callable[[], str]) -> None:
        self.rng, self.numbers, self.address = rng, numbers, address

    def firewall(self, namespace: str) -> Manifest:
        rules = [self.rule() for _ in range(self.rng.choice((0, 1, 2, 4, 8, 12)))]
        if rules and self.rng.random() < 0.4:
            rules.append({"type": "Deny", "to": {"cidrSelector": self.rng.choice(("0.0.0.0/0", "::/0"))}})
        return {
            "apiVersion": "k8s.ovn.org/v1",
            "kind": "EgressFirewall",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"egress": rules},
        }

    def rule(self) -> Manifest:
        rng = self.rng
        made: Manifest = {"type": rng.choice(("Allow", "Deny")), "to": self._to()}
        if rng.random() < 0.5:
            made["ports"] = [self._port() for _ in range(rng.choice((1, 1, 2, 3)))]
        return made

    def edit(self, firewall: Manifest) -> Manifest:
        """One rule added, removed, moved or changed; the manifest is a new one."""
        rng, rules = self.rng, list(firewall["spec"]["egress"])
        kind = rng.random()
        if kind < 0.4 or not rules:
            rules.insert(rng.randint(0, len(rules)), self.rule())
        elif kind < 0.6:
            del rules[rng.randrange(len(rules))]
        elif kind < 0.8:
            rules.insert(rng.randint(0, len(rules) - 1), rules.pop(rng.randrange(len(rules))))
        else:
            rules[rng.randrange(len(rules))] = self.rule()
        return {**firewall, "spec": {"egress": rules}}

    def _to(self) -> dict[str, Any]:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.15:
            return {"dnsName": rng.choice(DNS_NAMES)}
        if kind < 0.25:
            return {"nodeSelector": rng.choice(({}, {"matchLabels": {"zone": rng.choice(("east", "west", "north"))}}))}
        return {"cidrSelector": self.cidr()}

    def cidr(self) -> str:
        rng = self.rng
        family = rng.choice(self.numbers()) if rng.random() < 0.93 else rng.choice((4, 6))
        text = rng.choice(OUTSIDE[family])
        if rng.random() < 0.3:
            text = self.address()
            family = ip_address(text).version
        value = int(ip_address(text)) ^ (rng.getrandbits(2) if rng.random() < 0.5 else 0)
        length = rng.choice(LENGTHS[family])
        made = ip_address(value) if family == 4 else ip_address(value + (0 if value >> 32 else 1 << 96))
        return str(ip_network((made, length), strict=False))

    def _port(self) -> Manifest:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.15:
            return {"port": rng.choice(PORTS)}
        if kind < 0.3:
            return {"protocol": rng.choice(PROTOCOLS)}
        return {"protocol": rng.choice(PROTOCOLS[:2]), "port": rng.choice(PORTS)}

    def answers(self) -> dict[str, DnsDecision]:
        """What some of the names have been answered so far."""
        return {name: self.answer() for name in DNS_NAMES[:-1] if self.rng.random() < 0.8}

    def answer(self) -> DnsDecision:
        rng = self.rng
        live = self._addresses(rng.choice((0, 1, 2, 3)))
        sticky = tuple(sorted({*live, *self._addresses(rng.choice((0, 1)))}))
        history = (DnsChange(at_s=1_700_000_000.0, cause="answer", addresses=live),)
        return DnsDecision(live=live, sticky=sticky, answer=live, history=history)

    def _addresses(self, count: int) -> tuple[Address, ...]:
        texts = [self.rng.choice(OUTSIDE[self.rng.choice(self.numbers())][:3]) for _ in range(count)]
        return tuple(sorted({parse_address(text) + self.rng.randint(0, 2) for text in texts}))
