"""From ``-f`` to a cluster: load, tell what was refused, assumed and skipped, and compute."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec.structs import replace

from ovnk_cli.northbound import recorded
from ovnk_cli.output import say
from ovnk_core.analysis.lint import lint
from ovnk_core.analysis.stated_egress_ips import Record, stated_decisions, status_remarks
from ovnk_core.cluster import Cluster
from ovnk_core.errors import ObjectError
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.load import Loaded, load
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.model.decision import Decisions, DnsDecision
from ovnk_core.terms.address import BITS, Address, Family, parse_address
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import Settings

PROGRESS_FROM_BYTES = 4 << 20


class Input(Value, frozen=True, kw_only=True):
    """What the shared input options say."""

    paths: tuple[str, ...]
    decisions_file: str | None
    platform: str
    node_prefix: str
    max_file_bytes: int
    dns: tuple[str, ...] = ()
    has_dns_feed: bool = False
    northbound: str | None = None
    driver: str = "native"
    timeout: float = 30.0

    @property
    def settings(self) -> Settings:
        bits = _prefixes(self.node_prefix)
        return Settings(node_prefix_bits=bits, platform=self.platform, has_dns_feed=self.has_dns_feed)

    def decisions(self) -> Decisions | None:
        """Recorded decisions of ``--decisions`` or ``--northbound``; None without either."""
        if self.northbound is not None:
            if self.decisions_file is not None:
                raise click.UsageError("give either --decisions FILE or --northbound ADDRESS")
            return recorded(self.northbound, self.driver, self.timeout)
        if self.decisions_file is None:
            return None
        try:
            text = Path(self.decisions_file).read_bytes()
        except OSError as error:
            raise click.UsageError(f"--decisions {self.decisions_file}: {error.strerror}") from error
        return read_decisions(text, source=self.decisions_file)

    def stated(self) -> dict[str, DnsDecision]:
        """What ``--dns`` says names stand for."""
        found: dict[str, set[Address]] = {}
        for text in self.dns:
            name, _, listed = text.partition("=")
            try:
                addresses = {parse_address(each.strip()) for each in listed.split(",")}
                found.setdefault(dns_name(name).name, set()).update(addresses)
            except ValueError as reason:
                raise click.UsageError(f"--dns {text}: {reason}") from None
        return {name: _decided(tuple(sorted(addresses))) for name, addresses in found.items()}

    def load(self) -> Loaded:
        """Read everything; progress on stderr for big inputs."""
        shown = False

        def progress(done: int, total: int) -> None:
            nonlocal shown
            if total >= PROGRESS_FROM_BYTES or done >= PROGRESS_FROM_BYTES:
                shown = True
                end = "\r" if sys.stderr.isatty() else "\n"
                click.echo(f"loading {done >> 20} of {max(done, total) >> 20} MiB", err=True, nl=False)
                click.echo(end, err=True, nl=False)

        loaded = load(self.paths, stdin=sys.stdin.buffer, max_file_bytes=self.max_file_bytes, progress=progress)
        if shown:
            say(f"loaded {loaded.bytes >> 20} MiB in {loaded.seconds:.1f} s")
        return loaded


def _decided(addresses: tuple[Address, ...]) -> DnsDecision:
    return DnsDecision(live=addresses, sticky=addresses, answer=addresses)


def _prefixes(text: str) -> tuple[tuple[Family, int], ...]:
    parts = text.split(",")
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in parts]
    four, six = numbers[0], numbers[1] if len(numbers) > 1 else 64
    if len(parts) > 2 or not 0 < four <= BITS[4] or not 0 < six <= BITS[6]:
        raise click.UsageError(f"--node-prefix {text}: write V4 or V4,V6 with prefix lengths, such as 24,64")
    return ((4, four), (6, six))


class Offline(Value, frozen=True, kw_only=True):
    """A loaded and computed cluster. ``exit_code`` is 1 when anything is refused."""

    loaded: Loaded
    cluster: Cluster
    record: Record

    @property
    def errors(self) -> tuple[ObjectError, ...]:
        return self.cluster.errors

    @property
    def exit_code(self) -> int:
        return 1 if self.errors else 0


def offline(given: Input, *, quiet: bool = False) -> Offline:
    """Load and compute without any database. Remarks go to stderr unless ``quiet``."""
    decided = given.decisions()
    loaded = given.load()
    record = decided or Decisions()
    record = replace(record, egress_ips=stated_decisions(loaded) | record.egress_ips)
    cluster = Cluster(settings=given.settings, decisions=record)
    cluster.replace(loaded)
    # Nothing is programmed here, so that nothing has to be confirmed.
    cluster.withdrawn(cluster.leaving)
    if given.dns:
        cluster.decide_dns(given.stated())
    kept = Record(name="the record", decisions=decided.egress_ips if decided is not None else {})
    if not quiet:
        _summarise(loaded, cluster, kept)
        if decided is None and (cluster.decisions.nodes or cluster.decisions.pods):
            say("note: addresses and subnets that objects do not state are proposed afresh (--decisions)")
    return Offline(loaded=loaded, cluster=cluster, record=kept)


def is_namespace(cluster: Cluster, name: str) -> bool:
    """Whether a namespace is declared, holds pods or has an egress firewall, be they refused."""
    keys = {kind: [*cluster.objects(kind)] for kind in ("Namespace", "Pod", "EgressFirewall")}
    for ref in cluster.refused:
        keys.setdefault(ref.kind, []).append(ref.key)
    inside = (*keys["Pod"], *keys["EgressFirewall"])
    return any(key.name == name for key in keys["Namespace"]) or any(key.namespace == name for key in inside)


def _summarise(loaded: Loaded, cluster: Cluster, record: Record) -> None:
    """Errors and the input's own warnings in full, lint's remarks as a count: questions are asked often."""
    report_edit(loaded, cluster, record)
    count = len(lint(cluster))
    if count:
        say(f"note: {count} remark{'s' if count > 1 else ''} about the cluster (ovnk validate lists them)")


def report_edit(loaded: Loaded, cluster: Cluster, record: Record) -> None:
    """What is wrong with the second of two inputs. ``record``: what counts for more than its statuses."""
    for error in cluster.errors:
        say(f"error: {error}")
    for text in input_remarks(loaded, cluster, record):
        say(f"warning: {text}")


def report(loaded: Loaded, cluster: Cluster, record: Record | None = None) -> None:
    """Everything a person should know about the input, on stderr."""
    for line in report_lines(loaded, cluster, record):
        say(line)


def report_lines(loaded: Loaded, cluster: Cluster, record: Record | None = None) -> tuple[str, ...]:
    """What ``report`` says."""
    errors = (f"error: {error}" for error in cluster.errors)
    return (*errors, *(f"warning: {remark}" for remark in remarks(loaded, cluster, record)))


def remarks(loaded: Loaded, cluster: Cluster, record: Record | None = None) -> tuple[str, ...]:
    """Warnings of the input, kinds that were skipped, and what lint finds."""
    return (*input_remarks(loaded, cluster, record), *lint(cluster))


def input_remarks(loaded: Loaded, cluster: Cluster, record: Record | None = None) -> tuple[str, ...]:
    """Warnings of the input, what of it is decided otherwise here, and kinds that were skipped. ``record``: as for
    ``status_remarks``."""
    found = [f"{each.source}: {each.text}" if each.source else each.text for each in loaded.warnings]
    found += status_remarks(loaded, cluster, record)
    found += [f"{kind}: unknown kind, skipped ({count})" for kind, count in loaded.unknown]
    kinds = sorted({ref.kind for ref in loaded.unbuilt})
    found += [f"{kind} objects are read but not enforced yet; trace marks answers they could change" for kind in kinds]
    return tuple(found)
