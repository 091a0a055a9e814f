"""Reading typed fields out of an untrusted value, and collecting everything that is wrong with it.

A ``Report`` belongs to one object. Its readers take the owner mapping, the owner's path and a key; they answer a
value of the right type in any case and record a problem when the field is not of it, so that a parser reads on and
the user sees every problem at once. A missing field and an explicit null are the same, as in the API.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from ovnk_core.errors import LimitError, ObjectError, SchemaError
from ovnk_core.ingest.position import Path, Positions, path_text
from ovnk_core.ingest.text import printable, show
from ovnk_core.terms.address import Address, Cidr, InterfaceAddress, parse_address, parse_cidr, parse_interface

MAX_PROBLEMS = 100
_LONGEST_GUESS = 64


class Unset:
    """Type of ``UNSET``: no value is to be shown."""


UNSET = Unset()


class Report:
    """Problems and warnings of one object; ``errors`` is complete up to ``MAX_PROBLEMS``, ``more`` counts the rest."""

    def __init__(self, kind: str, name: str, positions: Positions) -> None:
        self.kind, self.name, self.positions = kind, name, positions
        self.errors: list[tuple[Path, ObjectError]] = []
        self.warnings: list[tuple[str, str]] = []
        self.more = 0

    def refuse(
        self,
        path: Path,
        reason: str,
        *,
        value: Any = UNSET,
        fix: str = "",
        error: type[ObjectError] = SchemaError,
        source: str = "",
    ) -> None:
        """Record one problem at ``path``."""
        if len(self.errors) >= MAX_PROBLEMS:
            self.more += 1
            return
        problem = error(
            reason,
            kind=self.kind,
            name=self.name,
            path=path_text(path),
            value="" if isinstance(value, Unset) else show(value),
            fix=fix,
            source=source or self.positions.at(*path),
        )
        self.errors.append((path, problem))

    def warn(self, path: Path, text: str) -> None:
        """Record something accepted that the author should know."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append((f"{path_text(path)}: {text}", self.positions.at(*path)))

    def touches(self, path: Path) -> bool:
        """Whether a problem lies at, below or above ``path``, so that what was read there is not to be trusted."""
        if self.more:
            return True
        return any(found[: len(path)] == path[: len(found)] for found, _ in self.errors)

    def all_errors(self) -> tuple[ObjectError, ...]:
        errors = [error for _, error in self.errors]
        if self.more:
            reason = f"and {self.more} more problems"
            errors.append(SchemaError(reason, kind=self.kind, name=self.name, source=self.positions.at()))
        return tuple(errors)

    def mapping(self, owner: Mapping[str, Any], path: Path, key: str) -> dict[str, Any]:
        """The mapping at ``key``; empty when absent."""
        value = owner.get(key)
        if value is None:
            return {}
        return self.as_mapping(value, (*path, key))

    def as_mapping(self, value: Any, path: Path) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.refuse(path, "must be a mapping", value=value)
        return {}

    def items(self, owner: Mapping[str, Any], path: Path, key: str) -> list[Any]:
        """The list at ``key``; empty when absent."""
        value = owner.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        self.refuse((*path, key), "must be a list", value=value)
        return []

    def text(self, owner: Mapping[str, Any], path: Path, key: str, default: str = "") -> str:
        value = owner.get(key)
        if value is None:
            return default
        return self.as_text(value, (*path, key), default)

    def as_text(self, value: Any, path: Path, default: str = "") -> str:
        if isinstance(value, str):
            return value
        fix = f"write {show(str(value))}" if isinstance(value, int) and not isinstance(value, bool) else ""
        fix = 'write "true" or "false" in quotes' if isinstance(value, bool) else fix if len(fix) < 60 else ""
        self.refuse(path, "must be text", value=value, fix=fix)
        return default

    def flag(self, owner: Mapping[str, Any], path: Path, key: str) -> bool:
        value = owner.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.refuse((*path, key), "must be true or false", value=value)
        return False

    def number(self, owner: Mapping[str, Any], path: Path, key: str, bounds: tuple[int, int]) -> int | None:
        """The whole number at ``key`` within inclusive ``bounds``; None when absent or wrong."""
        value = owner.get(key)
        return None if value is None else self.as_number(value, (*path, key), bounds)

    def as_number(self, value: Any, path: Path, bounds: tuple[int, int]) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(path, "must be a whole number", value=value)
            return None
        if not bounds[0] <= value <= bounds[1]:
            self.refuse(path, f"must be from {bounds[0]} to {bounds[1]}", value=value, error=LimitError)
            return None
        return value

    def address(self, value: Any, path: Path) -> Address | None:
        text = self.as_text(value, path)
        try:
            return parse_address(text) if isinstance(value, str) else None
        except ValueError as reason:
            self.refuse(path, str(reason), value=value)
            return None

    def interface(self, value: Any, path: Path) -> InterfaceAddress | None:
        text = self.as_text(value, path)
        try:
            return parse_interface(text) if isinstance(value, str) else None
        except ValueError as reason:
            self.refuse(path, str(reason), value=value, fix="write ADDRESS/PREFIX")
            return None

    def prefix(self, value: Any, path: Path, *, strict: bool) -> Cidr | None:
        """A prefix. Set host bits are refused when ``strict``, else cleared with a warning."""
        text = self.as_text(value, path)
        if not isinstance(value, str):
            return None
        try:
            found, has_host_bits = parse_cidr(text)
        except ValueError as reason:
            self.refuse(path, str(reason), value=value, fix="write NETWORK/PREFIX")
            return None
        if has_host_bits and strict:
            self.refuse(path, "host bits are set", value=value, fix=f"write {found}")
            return None
        if has_host_bits:
            self.warn(path, f"{printable(text)} has host bits set, {found} is used")
        return found

    def known(self, owner: Mapping[str, Any], path: Path, allowed: Collection[str]) -> None:
        """Refuse every field of ``owner`` that is not in ``allowed``."""
        for key in owner:
            if key in allowed:
                continue
            guess: list[str] = []
            if isinstance(key, str) and len(key) <= _LONGEST_GUESS and len(self.errors) < MAX_PROBLEMS:
                lowered = {name.lower(): name for name in sorted(allowed)}
                guess = [lowered[near] for near in difflib.get_close_matches(key.lower(), lowered, 1)]
            fix = f"did you mean {guess[0]}?" if guess else f"known here: {', '.join(sorted(allowed))}"
            self.refuse((*path, str(key)), "unknown field", fix=fix)
