"""Flows in files: CSV with the header ``dst,protocol,port``, or NumPy's ``.npz`` with columns of those names.

CSV: ``dst`` is an IPv4 or IPv6 address, both may occur; ``protocol`` is tcp, udp, sctp, icmp or an IP protocol number;
``port`` is the destination port, empty for protocols that have none. Empty lines are passed over.
npz: ``dst`` uint32 [n] (IPv4), uint64 [n, 2] (IPv6, high and low half) or text [n]; ``protocol`` and ``port`` any
integers in range. Answers keep the order and add ``verdict`` (allow, drop) and ``rule`` (-1: no rule decided).
A million lines of CSV are read and written in about 0.2 s; npz of addresses costs next to nothing.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ovnk_core.analysis.firewall import flow_text
from ovnk_core.errors import OvnkError
from ovnk_core.ingest.text import printable
from ovnk_core.terms.address import Address, Family, parse_address
from ovnk_core.terms.port import PROTOCOL_NUMBERS
from ovnk_core.terms.struct import Value

HEADER = "dst,protocol,port"
COLUMNS = ("dst", "protocol", "port")
WITH_PORTS = tuple(PROTOCOL_NUMBERS.values())
ICMP: dict[Family, int] = {4: 1, 6: 58}
LOW_HALF = (1 << 64) - 1
_UNREADABLE = (ValueError, OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
PORT_LIMIT, PROTOCOL_LIMIT = 65535, 255


class FlowError(OvnkError):
    """A file of flows cannot be read. ``line`` counts from 1 (npz: the index of the flow plus 1), 0: the whole file."""

    is_usage = True

    def __init__(self, file: str, line: int, column: str, value: str, reason: str, fix: str) -> None:
        self.file, self.line, self.column, self.value, self.reason, self.fix = file, line, column, value, reason, fix
        where = f"{file}:{line}" if line else file
        what = f"{column} {printable(value)!r}" if column else printable(value)
        super().__init__(f"{where}: {what}: {reason}; {fix}")


class Flows(Value, frozen=True, kw_only=True):
    """n flows as columns. ``families`` uint8 [n]; ``halves`` uint64 [n, 2], address high and low (IPv4: 0, address);
    ``protocols`` uint8 [n] as IANA numbers them; ``ports`` uint16 [n], 0 where the protocol has none."""

    families: npt.NDArray[np.uint8]
    halves: npt.NDArray[np.uint64]
    protocols: npt.NDArray[np.uint8]
    ports: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.families)

    def address(self, index: int) -> Address:
        """Destination of one flow."""
        family: Family = 4 if self.families[index] == 4 else 6
        return Address(family, int(self.halves[index, 0]) << 64 | int(self.halves[index, 1]))


class FlowLines(Value, frozen=True, kw_only=True):
    """Flows, and the CSV lines they were read from: ``text[starts[i]:stops[i]]``, uint8 and int64 [n]."""

    flows: Flows
    text: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]


# ------------------------------------------------------------------------------------------- CSV


def read_csv(content: bytes, file: str) -> FlowLines:
    """A CSV file's bytes -> its flows. Raises FlowError for the first line at fault."""
    if not content:
        raise FlowError(file, 0, "", "the file", "is empty", f"write the header {HEADER} and one flow a line")
    text = np.frombuffer(content, np.uint8)
    stops = np.flatnonzero(text == ord("\n"))
    if len(text) and text[-1] != ord("\n"):
        stops = np.append(stops, len(text))
    starts = np.concatenate((np.zeros(min(1, len(stops)), np.int64), stops[:-1] + 1))
    stops = stops - ((stops > starts) & (text[np.maximum(stops - 1, 0)] == ord("\r")))
    header = content[: stops[0]].decode(errors="replace") if len(stops) else ""
    if header.removeprefix("\ufeff").strip() != HEADER:
        raise FlowError(file, 1, "", header, "is not the header of a file of flows", f"write {HEADER}")
    is_line = stops > starts
    is_line[0] = False
    starts, stops = starts[is_line], stops[is_line]
    n = len(starts)
    flows = Flows(
        families=np.zeros(n, np.uint8),
        halves=np.zeros((n, 2), np.uint64),
        protocols=np.zeros(n, np.uint8),
        ports=np.zeros(n, np.uint16),
    )
    commas = np.empty(n, np.int64)
    flow_text.read_addresses_4(text, starts, stops, flows.families, flows.halves, commas)
    flow_text.read_addresses_6(text, starts, flows.families, flows.halves, commas)
    flow_text.read_transport(text, commas, stops, flows.families, flows.protocols, flows.ports)
    for index in np.flatnonzero(flows.families == 0):
        line = int(np.count_nonzero(text[: starts[index]] == ord("\n"))) + 1
        address, protocol, port = read_line(content[starts[index] : stops[index]], file, line)
        flows.families[index] = address.family
        flows.halves[index] = (address.value >> 64, address.value & LOW_HALF)
        flows.protocols[index], flows.ports[index] = protocol, port
    return FlowLines(flows=flows, text=text, starts=starts, stops=stops)


def read_line(raw: bytes, file: str, line: int) -> tuple[Address, int, int]:
    """One CSV line -> (destination, protocol number, port); port 0 where the protocol has none. Raises FlowError."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        shown = raw.decode(errors="backslashreplace")
        raise FlowError(file, line, "", shown, "is not UTF-8", "save the file as UTF-8") from None
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != len(COLUMNS):
        raise FlowError(file, line, "", text, f"has {len(fields)} fields", f"write {HEADER}, the port empty for icmp")
    try:
        address = parse_address(fields[0])
    except ValueError as reason:
        raise FlowError(file, line, "dst", fields[0], str(reason), "write one IPv4 or IPv6 address") from None
    protocol = _protocol(fields[1], address.family)
    if not 0 <= protocol <= PROTOCOL_LIMIT:
        fix = "write tcp, udp, sctp, icmp or a number from 0 to 255"
        raise FlowError(file, line, "protocol", fields[1], "is not a protocol", fix)
    if protocol not in WITH_PORTS:
        if fields[2]:
            raise FlowError(file, line, "port", fields[2], f"{fields[1]} has no ports", "leave it empty")
        return address, protocol, 0
    port = _number(fields[2])
    if not 0 <= port <= PORT_LIMIT:
        raise FlowError(file, line, "port", fields[2], "is not a port", f"write 0 to {PORT_LIMIT}")
    return address, protocol, port


def _protocol(text: str, family: Family) -> int:
    if text.lower() == "icmp":
        return ICMP[family]
    return PROTOCOL_NUMBERS.get(text.upper(), _number(text))


def _number(text: str) -> int:
    """Decimal digits -> their value, anything else -> -1."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1


def write_csv(lines: FlowLines, allowed: npt.NDArray[np.bool_], rules: npt.NDArray[np.int32]) -> bytes:
    """The lines as they were read, with verdict and rule: CSV with its header."""
    head = f"{HEADER},verdict,rule\n".encode()
    size = int((lines.stops - lines.starts).sum()) + flow_text.RULE_DIGITS * len(lines.flows)
    out = np.empty(len(head) + size, np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    args = (lines.text, lines.starts, lines.stops, allowed.view(np.uint8), rules, out[len(head) :])
    return out[: len(head) + flow_text.write_lines(*args)].tobytes()


def lines_of(flows: Flows) -> FlowLines:
    """Flows that came from no CSV, as lines of one. About 1 us each."""
    names = {number: name.lower() for name, number in PROTOCOL_NUMBERS.items()}
    columns = (flows.families.tolist(), flows.halves.tolist(), flows.protocols.tolist(), flows.ports.tolist())
    found = []
    for family, (high, low), protocol, port in zip(*columns, strict=True):
        if family == 4:
            dst = f"{low >> 24}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}"
        else:
            dst = str(Address(6, high << 64 | low))
        name = names.get(protocol)
        shown = f"{name},{port}" if name else "icmp," if protocol == ICMP[family] else f"{protocol},"
        found.append(f"{dst},{shown}\n")
    content = "".join(found).encode()
    text = np.frombuffer(content, np.uint8)
    stops = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate((np.zeros(min(1, len(stops)), np.int64), stops[:-1] + 1))
    return FlowLines(flows=flows, text=text, starts=starts, stops=stops)


# ------------------------------------------------------------------------------------------- npz


def is_npz(content: bytes, file: str) -> bool:
    """Whether a file is read as npz: by its name if that says so, else by being a zip archive and no text."""
    if file.endswith((".npz", ".csv")):
        return file.endswith(".npz")
    if not content.startswith(b"PK"):
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


def read_npz(content: bytes, file: str) -> Flows:
    """An npz file's bytes -> its flows. Raises FlowError."""
    columns: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in COLUMNS:
                if f"{name}.npy" in archive.namelist():
                    with archive.open(f"{name}.npy") as member:
                        columns[name] = np.lib.format.read_array(member, allow_pickle=False)
    except _UNREADABLE:
        # What NumPy says of pickled arrays is advice on how to run them.
        raise FlowError(file, 0, "", file, "is no npz file of plain arrays", "write it with savez") from None
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        fix = f"name its arrays {', '.join(COLUMNS)}"
        raise FlowError(file, 0, "", ", ".join(missing), "is not in the file", fix)
    families, halves = _addresses(columns["dst"], file)
    protocols = _integers(columns["protocol"], "protocol", PROTOCOL_LIMIT, len(families), file)
    ports = _integers(columns["port"], "port", PORT_LIMIT, len(families), file)
    return Flows(
        families=families,
        halves=halves,
        protocols=protocols.astype(np.uint8),
        ports=np.where(np.isin(protocols, WITH_PORTS), ports, 0).astype(np.uint16),
    )


def _addresses(dst: npt.NDArray[np.generic], file: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """(families, halves) of a ``dst`` column."""
    n = len(dst) if dst.ndim else 0
    halves = np.zeros((n, 2), np.uint64)
    if dst.dtype == np.uint32 and dst.ndim == 1:
        halves[:, 1] = dst
        return np.full(n, 4, np.uint8), halves
    if dst.dtype == np.uint64 and dst.shape[1:] == (2,):
        halves[:] = dst
        return np.full(n, 6, np.uint8), halves
    if dst.dtype.kind not in "US" or dst.ndim != 1:
        _refuse_column(dst, "dst", "uint32 [n], uint64 [n, 2] or text [n]", file)
    unique, first, places = np.unique(dst, return_index=True, return_inverse=True)
    parsed: list[Address] = []
    for text, index in zip(unique.tolist(), first.tolist(), strict=True):
        shown = text.decode(errors="backslashreplace") if isinstance(text, bytes) else str(text)
        try:
            parsed.append(parse_address(shown))
        except ValueError as reason:
            fix = "write one IPv4 or IPv6 address"
            raise FlowError(file, index + 1, "dst", shown, str(reason), fix) from None
    families = np.array([address.family for address in parsed], np.uint8)
    words = np.array([(address.value >> 64, address.value & LOW_HALF) for address in parsed], np.uint64).reshape(-1, 2)
    return families[places], words[places]


def _integers(column: npt.NDArray[Any], name: str, limit: int, size: int, file: str) -> npt.NDArray[Any]:
    """A column of ``size`` integers from 0 to ``limit``."""
    if column.dtype.kind not in "iu" or column.ndim != 1:
        _refuse_column(column, name, "integers [n]", file)
    if len(column) != size:
        reason = f"has {len(column)} items, but dst has {size}"
        raise FlowError(file, 0, "", name, reason, "give every flow one of each")
    wrong = np.flatnonzero((column < 0) | (column > limit))
    if len(wrong):
        at = int(wrong[0])
        raise FlowError(file, at + 1, name, str(column[at]), "is out of range", f"write 0 to {limit}")
    return column


def _refuse_column(column: npt.NDArray[np.generic], name: str, wanted: str, file: str) -> NoReturn:
    raise FlowError(file, 0, "", name, f"is {column.dtype} {list(column.shape)}", f"make it {wanted}")


def write_npz(flows: Flows, allowed: npt.NDArray[np.bool_], rules: npt.NDArray[np.int32]) -> bytes:
    """Flows with their answers as npz: ``dst`` in the narrowest form that holds them all, ``verdict`` text [n],
    ``rule`` int32 [n]."""
    dst: npt.NDArray[np.generic]
    if (flows.families == 4).all():
        dst = flows.halves[:, 1].astype(np.uint32)
    elif (flows.families == 6).all():
        dst = flows.halves
    else:
        dst = np.array([str(flows.address(index)) for index in range(len(flows))])
    verdict = np.where(allowed, "allow", "drop")
    out = io.BytesIO()
    np.savez(out, dst=dst, protocol=flows.protocols, port=flows.ports, verdict=verdict, rule=rules)
    return out.getvalue()
