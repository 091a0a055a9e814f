"""Reading a match back: the inverse of ``match.text``, and enough for the flows northd writes.

Used to prove that what we print is what we meant, and to compare our logical flows with the southbound's.
"""

from __future__ import annotations

import re
from typing import Literal, cast

from ovnk_core.nb.match import (
    ALWAYS,
    NEVER,
    AddressSetRef,
    Between,
    Hex,
    Is,
    Match,
    Not,
    PortGroupRef,
    PortRef,
    Range,
    Term,
    Test,
    VariableRef,
    conj,
    disj,
)
from ovnk_core.terms.address import Cidr, parse_address, parse_cidr

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<op>&&|\|\||==|!=|<=|>=|<|>|!|\(|\)|\{|\}|,)
    | (?P<string>"[^"]*")
    | (?P<set>[$@][A-Za-z_.][A-Za-z_.0-9]*)
    | (?P<variable>\^[A-Za-z_.][A-Za-z_.0-9]*)
    | (?P<mac>(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![:0-9a-fA-F]))
    | (?P<address>[0-9a-fA-F]*:[0-9a-fA-F:]*(?:/\d+)?|\d+\.\d+\.\d+\.\d+(?:/\d+)?)
    | (?P<hex>0x[0-9a-f]+)
    | (?P<number>\d+)
    | (?P<name>[A-Za-z_][A-Za-z_0-9.]*(?:\[\d+(?:\.\.\d+)?\])?)
    )""",
    re.VERBOSE,
)
Token = tuple[str, str]


class MatchSyntaxError(ValueError):
    """The text is not in the part of OVN's match language that we know."""


def parse(source: str) -> Match:
    """Text -> tree. Raises MatchSyntaxError with the position."""
    parser = _Parser(_tokens(source), source)
    found = parser.expression()
    parser.expect_end()
    return found


def _tokens(source: str) -> list[Token]:
    tokens: list[Token] = []
    position, end = 0, len(source.rstrip())
    while position < end:
        found = _TOKEN.match(source, position)
        if found is None or found.lastgroup is None:
            raise MatchSyntaxError(f"cannot read {source[position : position + 20]!r} at {position} of {source!r}")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[Token], source: str) -> None:
        self.tokens, self.source, self.at = tokens, source, 0

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.peek() == ("op", text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.error(f"expected {text!r}")

    def expect_end(self) -> None:
        if self.peek()[0] != "end":
            raise self.error("expected the end")

    def error(self, reason: str) -> MatchSyntaxError:
        return MatchSyntaxError(f"{reason}, found {self.peek()[1]!r} (token {self.at}) in {self.source!r}")

    def expression(self) -> Match:
        first = self.factor()
        for operator, join in (("&&", conj), ("||", disj)):
            if self.peek() == ("op", operator):
                parts = [first]
                while self.accept(operator):
                    parts.append(self.factor())
                return join(*parts)
        return first

    def factor(self) -> Match:
        if self.accept("!"):
            return Not(self.factor())
        if self.accept("("):
            inner = self.expression()
            self.expect(")")
            return inner
        kind, text = self.next()
        if kind == "number":
            return self.number_first(int(text))
        if kind != "name":
            self.at -= 1
            raise self.error("expected a field")
        if self.peek() in (("op", "=="), ("op", "!=")):
            return self.comparison(text)
        return Is(text)

    def number_first(self, low: int) -> Match:
        if self.accept("<="):
            field = self.next()[1]
            self.expect("<=")
            return Between(field, Range(low, int(self.next()[1])))
        if low in (0, 1):
            return ALWAYS if low else NEVER
        raise self.error("expected <=")

    def comparison(self, field: str) -> Match:
        op = cast(Literal["==", "!="], self.next()[1])  # the caller looked
        if not self.accept("{"):
            return Test(field, (self.term(),), op)
        terms = [self.term()]
        while self.accept(","):
            terms.append(self.term())
        self.expect("}")
        return Test(field, tuple(terms), op)

    def term(self) -> Term:
        kind, text = self.next()
        match kind:
            case "number":
                return int(text)
            case "hex":
                return Hex(int(text, 16))
            case "string":
                return PortRef(text[1:-1])
            case "mac":
                return text
            case "set":
                return AddressSetRef(text[1:]) if text[0] == "$" else PortGroupRef(text[1:])
            case "variable":
                return VariableRef(text[1:])
            case "address":
                return _address(text)
            case _:
                self.at -= 1
                raise self.error("expected a constant")


def _address(text: str) -> Cidr:
    try:
        return parse_cidr(text)[0] if "/" in text else parse_address(text).host
    except ValueError as error:
        raise MatchSyntaxError(f"{text}: {error}") from error
