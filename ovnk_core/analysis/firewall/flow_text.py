"""Flows as text, a million lines at a time: compiled reading and writing of CSV lines.

Reading takes plain spellings only and marks every other line; the caller reads those one by one, and says what is wrong
with them. Whatever is taken here, the careful reader takes with the same meaning; a test compares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovnk_core.kernels.jit import kernel

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Ports = npt.NDArray[np.uint16]
Places = npt.NDArray[np.int64]
RULE_DIGITS = 20
"""Bytes that ``,allow,`` and a rule's index and the end of a line need at most."""
COMMA, DOT, COLON, ZERO = 44, 46, 58, 48
TCP, UDP, SCTP, ICMP = 0x746370, 0x756470, 0x73637470, 0x69636D70
ZERO_64, SIXTEEN, THIRTY_TWO = np.uint64(0), np.uint64(16), np.uint64(32)
ALLOW, DROP = np.frombuffer(b",allow,", np.uint8), np.frombuffer(b",drop,", np.uint8)


@kernel
def read_addresses_4(
    text: Bytes, starts: Places, stops: Places, families: Bytes, halves: Words, commas: Places
) -> None:
    """The first field of lines ``text[starts[i]:stops[i]]``: families [n] 4, and ``halves`` [n, 2] (0, address), where
    it is a dotted quad, else family 0. ``commas`` [n]: where the field ends, -1 without a comma."""
    for i in range(len(starts)):
        at, stop = starts[i], stops[i]
        value, octet, digits, dots, is_good = 0, 0, 0, 0, True
        while at < stop and text[at] != COMMA:
            byte = int(text[at])
            digit = byte - ZERO
            if 0 <= digit < 10:
                is_good &= digits == 0 or (octet > 0 and digits < 3)  # no leading zeros
                octet = octet * 10 + digit if digits < 3 else 256
                digits += 1
            else:
                is_good &= byte == DOT and digits > 0 and octet < 256 and dots < 3
                value = (value << 8 | octet) & 0xFFFFFFFF
                octet, digits, dots = 0, 0, dots + 1
            at += 1
        is_good &= dots == 3 and digits > 0 and octet < 256
        families[i] = 4 if is_good else 0
        halves[i, 0], halves[i, 1] = 0, value << 8 | octet if is_good else 0
        commas[i] = at if at < stop else -1


@kernel
def read_addresses_6(text: Bytes, starts: Places, families: Bytes, halves: Words, commas: Places) -> None:
    """The same for lines that hold no dotted quad: family 6 and ``halves`` (high, low) for groups of hexadecimal digits
    with at most one gap, unless they map an IPv4 address."""
    groups = np.zeros(9, np.uint64)
    for i in range(len(starts)):
        if families[i] != 0 or commas[i] < 0:
            continue
        at, stop = starts[i], commas[i]
        count, gap, is_good = 0, -1, True
        if at + 1 < stop and text[at] == COLON and text[at + 1] == COLON:
            gap, at = 0, at + 2
        while at < stop and is_good:
            group, digits = 0, 0
            while at < stop and text[at] != COLON and is_good:
                letter = int(text[at]) | 32
                digit = letter - 87 if letter >= 97 else letter - ZERO
                is_good = digits < 4 and (0 <= digit < 10 or (letter >= 97 and digit < 16)) and text[at] >= ZERO
                group = group << 4 | digit
                digits += 1
                at += 1
            is_good &= digits > 0 and count < 8
            groups[count] = group & 0xFFFF
            count += 1
            if at < stop:
                at += 1
                if at < stop and text[at] == COLON:
                    is_good &= gap < 0
                    gap, at = count, at + 1
                else:
                    is_good &= at < stop  # a single colon at the end
        missing = 8 - count
        if not is_good or (missing != 0 if gap < 0 else missing < 1):
            continue
        for each in range(8):
            part = groups[each] if gap < 0 or each < gap else ZERO_64
            if gap >= 0 and each >= gap + missing:
                part = groups[each - missing]
            half = 0 if each < 4 else 1
            halves[i, half] = halves[i, half] << SIXTEEN | part
        is_mapped = halves[i, 0] == 0 and halves[i, 1] >> THIRTY_TWO == 0xFFFF
        families[i] = 0 if is_mapped else 6


@kernel
def read_transport(text: Bytes, commas: Places, stops: Places, families: Bytes, protocols: Bytes, ports: Ports) -> None:
    """The second and third field: protocols [n] as IANA numbers them, ports [n] (0 where the protocol has none).

    A line whose address is not known, or that does not read plainly here, gets family 0.
    """
    for i in range(len(commas)):
        at, stop, family = commas[i] + 1, stops[i], families[i]
        families[i] = 0
        if family == 0:
            continue
        word, number, start = 0, 0, at
        while at < stop and text[at] != COMMA:
            byte = int(text[at])
            word = (word << 8 | byte) & 0xFFFFFFFFFF
            number = number * 10 + byte - ZERO if ZERO <= byte < ZERO + 10 and 0 <= number < 256 else -1
            at += 1
        number = 6 if word == TCP else 17 if word == UDP else 132 if word == SCTP else number
        if word == ICMP:
            number = 1 if family == 4 else 58
        has_port = number == 6 or number == 17 or number == 132
        if at >= stop or at == start or not 0 <= number < 256:
            continue
        at += 1
        port, start = 0, at
        while at < stop:
            byte = int(text[at])
            port = port * 10 + byte - ZERO if ZERO <= byte < ZERO + 10 and 0 <= port < 65536 else -1
            at += 1
        if 0 <= port < 65536 and has_port == (at > start):
            families[i], protocols[i], ports[i] = family, number, port


@kernel
def write_lines(
    text: Bytes, starts: Places, stops: Places, allowed: Bytes, rules: npt.NDArray[np.int32], out: Bytes
) -> int:
    """Lines as they stand, each with its verdict and rule, into ``out``; bytes written."""
    n = 0
    for i in range(len(starts)):
        for at in range(starts[i], stops[i]):
            out[n] = text[at]
            n += 1
        for byte in ALLOW if allowed[i] else DROP:
            out[n] = byte
            n += 1
        rule = int(rules[i])
        if rule < 0:
            out[n] = 45
            n += 1
            rule = -rule
        scale = 1
        while scale * 10 <= rule:
            scale *= 10
        while scale > 0:
            out[n] = ZERO + rule // scale % 10
            n += 1
            scale //= 10
        out[n] = 10
        n += 1
    return n
