"""The authorisation file: who may do what. Whatever no rule allows is denied.

    [[rule]]
    identities = ["spiffe://example.org/ci", "spiffe://example.org/team-a/*"]
    verbs = ["get", "list", "watch", "apply"]
    kinds = ["EgressFirewall", "NetworkPolicy"]
    namespaces = ["team-a", "team-a-*"]
    sources = ["team-a-adapter"]

Each entry is exact, or a prefix with ``*`` at its end; verbs are exact or ``*``. The namespace of what has none is the
empty text, and so is the kind of what has no kind (flows, the service's events): ``*`` alone holds them, a longer
prefix does not. ``sources`` is about the verb sync alone: as which sources. Without a file the unix socket's identity
may do everything, and nobody else anything.

The file is looked at every second. One that cannot be used changes nothing: the policy before it stays in force, and
why is logged once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec

from ovnk_core.errors import OvnkError
from ovnk_core.terms.struct import Value
from ovnk_server.access import VERBS, Verb

MAX_FILE_BYTES = 4 << 20
MAX_ANSWERS, MAX_NAMES = 65_536, 512
"""Answers that are remembered; then the memory is emptied, as asking anew costs microseconds. Callers choose the kinds
and namespaces they ask about, so longer ones than any that exist are not remembered."""


class AuthorisationError(OvnkError):
    """The file cannot be used; the message says where and why."""

    is_usage = True


class Rule(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Allows all of ``identities`` all of ``verbs`` on all of ``kinds`` in all of ``namespaces``; to sync, as any of
    ``sources``."""

    identities: tuple[str, ...]
    verbs: tuple[str, ...]
    kinds: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ("*",)
    sources: tuple[str, ...] = ("*",)


class _File(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...] = ()


class RulePolicy:
    """The policy that rules make. Immutable; remembers what it was asked."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._answers: dict[tuple[str, ...], bool] = {}

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str, source: str = "") -> bool:
        asked = (identity, verb, kind, namespace, source)
        found = self._answers.get(asked)
        if found is None:
            found = any(_holds(rule, asked) for rule in self.rules)
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            if len(kind) + len(namespace) + len(source) <= MAX_NAMES:
                self._answers[asked] = found
        return found

    def names(self, identity: str, source: str = "") -> bool:
        """Whether a rule is about the identity; with a ``source``, one that lets it state something as that."""
        return any(
            _matches(rule.identities, identity)
            and (not source or (_matches(rule.verbs, "sync") and _matches(rule.sources, source)))
            for rule in self.rules
        )


def _holds(rule: Rule, asked: tuple[str, str, str, str, str]) -> bool:
    *words, source = asked
    listed = (rule.identities, rule.verbs, rule.kinds, rule.namespaces)
    is_held = all(_matches(entries, word) for entries, word in zip(listed, words, strict=True))
    return is_held and (not source or _matches(rule.sources, source))


def _matches(entries: tuple[str, ...], word: str) -> bool:
    return any(word.startswith(each[:-1]) if each.endswith("*") else word == each for each in entries)


def everything_for(identity: str) -> RulePolicy:
    """The policy without a file."""
    return RulePolicy((Rule(identities=(identity,), verbs=("*",)),))


def parse(text: str, source: str) -> RulePolicy:
    """A file's text -> its policy. Raises AuthorisationError."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise AuthorisationError(f"{source}: is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise AuthorisationError(f"{source}: {error}") from None
    for number, rule in enumerate(file.rule, 1):
        for name in Rule.__struct_fields__:
            _check(getattr(rule, name), f"{source}: rule {number}: {name}")
        for verb in rule.verbs:
            if verb not in (*VERBS, "*"):
                raise AuthorisationError(f"{source}: rule {number}: verb {verb!r}; known: {', '.join(get_args(Verb))}")
        if "*" in rule.identities:
            # Certificates of any authority that clients may come from would do: surely not what is meant.
            raise AuthorisationError(f"{source}: rule {number}: identities: * alone is everybody; write a prefix")
    return RulePolicy(file.rule)


def _check(entries: tuple[str, ...], where: str) -> None:
    if not entries:
        raise AuthorisationError(f"{where}: is empty, so the rule would allow nothing")
    for entry in entries:
        if "*" in entry[:-1]:
            raise AuthorisationError(f"{where}: {entry!r}: * may stand at the end only")


class Authorisation:
    """The policy in force, read again when its file changes. ``told`` hears of faults, and of every new policy."""

    def __init__(self, path: str, socket_identity: str, told: Callable[[str], None] = lambda text: None) -> None:
        self._path, self._told = Path(path) if path else None, told
        self._seen: tuple[int, ...] = ()
        self._fault = ""
        self.policy = everything_for(socket_identity)
        if self._path is not None:
            self._seen = _stamp(self._path)
            self.policy = _read(self._path)

    def refresh(self) -> bool:
        """Look at the file; whether there is a new policy. Never raises."""
        if self._path is None or (stamp := _stamp(self._path)) == self._seen:
            return False
        try:
            policy = _read(self._path)
        except AuthorisationError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                self._told(f"{error}; the policy before it stays in force")
            # Not ``_seen``: a file that was read half-way through being written is tried again.
            return False
        self._seen, self._fault = stamp, ""
        is_new = policy.rules != self.policy.rules
        if is_new:
            self.policy = policy
            self._told(f"{self._path}: {len(policy.rules)} rules are in force")
        return is_new


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> RulePolicy:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise AuthorisationError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB")
        return parse(content.decode(), str(path))
    except OSError as error:
        raise AuthorisationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthorisationError(f"{path}: is not UTF-8") from None
