"""Flows as text, a million lines at a time: compiled reading and writing of CSV lines.

``read_lines`` takes the plain spellings only and marks every other line; the caller reads those one by one, and says
what is wrong with them. So whatever it takes, the careful reader takes with the same meaning.
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
_COMMA, _DOT, _COLON, _ZERO = 44, 46, 58, 48
_TCP, _UDP, _SCTP, _ICMP = 0x746370, 0x756470, 0x73637470, 0x69636D70
_ALLOW = np.frombuffer(b",allow,", np.uint8)
_DENY = np.frombuffer(b",deny,", np.uint8)


@kernel
def read_lines(
    text: Bytes, starts: Places, stops: Places, families: Bytes, halves: Words, protocols: Bytes, ports: Ports
) -> None:
    """Lines ``text[starts[i]:stops[i]]`` of ``dst,protocol,port`` -> columns [n]; ``halves`` [n, 2]: address high, low.

    ``families`` is 4 or 6, or 0 for a line that is left to the careful reader.
    """
    groups = np.zeros(8, np.uint64)
    for i in range(len(starts)):
        at, end = starts[i], stops[i]
        families[i] = 0
        # ---- the address: groups of digits between dots, or of hexadecimal digits between colons
        count, digits, gap, is_six, is_good = 0, 0, -1, False, True
        ten, hexadecimal = 0, 0
        is_closed = True  # a separator came last
        while at < end and text[at] != _COMMA:
            byte = np.int64(text[at])
            low = byte | 32
            if _ZERO <= byte < _ZERO + 10 or 97 <= low < 103:
                digit = byte - _ZERO if byte < _COLON else low - 87
                is_good &= digits < 4 and count < 8
                ten = ten * 10 + digit if digit < 10 and ten >= 0 else -1
                hexadecimal = hexadecimal * 16 + digit
                digits += 1
                is_closed = False
            elif byte == _DOT:
                is_good &= 0 < digits < 4 and 0 <= ten < 256 and count < 3 and (digits == 1 or ten > 9) and not is_six
                is_good &= digits < 3 or ten > 99
                if is_good:
                    groups[count] = ten
                count, digits, ten, hexadecimal, is_closed = count + 1, 0, 0, 0, True
            elif byte == _COLON:
                is_six = True
                if digits == 0:  # two colons in a row: a gap
                    is_good &= gap < 0 and (count > 0 or (at + 1 < end and text[at + 1] == _COLON))
                    gap = count
                    at += 1 if count == 0 else 0
                else:
                    is_good &= count < 8
                    if is_good:
                        groups[count] = hexadecimal
                    count += 1
                digits, ten, hexadecimal, is_closed = 0, 0, 0, True
            else:
                is_good = False
            at += 1
        if not is_good or at >= end:
            continue
        high, lower = np.uint64(0), np.uint64(0)
        if is_six:
            if digits > 0:
                if count > 7:
                    continue
                groups[count] = hexadecimal
                count += 1
            elif gap != count:  # ends with one colon
                continue
            missing = 8 - count
            if (gap < 0 and missing != 0) or (gap >= 0 and missing < 1):
                continue
            for each in range(8):
                source = each if gap < 0 or each < gap else each - missing
                word = groups[source] if gap < 0 or each < gap or each >= gap + missing else np.uint64(0)
                if each < 4:
                    high = high << np.uint64(16) | word
                else:
                    lower = lower << np.uint64(16) | word
            if high == 0 and lower >> np.uint64(32) == np.uint64(0xFFFF):
                continue  # IPv4-mapped
        else:
            is_good = count == 3 and 0 < digits < 4 and 0 <= ten < 256 and (digits == 1 or ten > 9)
            if not is_good or is_closed or (digits == 3 and ten < 100):
                continue
            lower = groups[0] << np.uint64(24) | groups[1] << np.uint64(16) | groups[2] << np.uint64(8) | np.uint64(ten)
        # ---- the protocol: a word or a number
        at += 1
        word_, number, begin = 0, 0, at
        while at < end and text[at] != _COMMA:
            byte = np.int64(text[at])
            word_ = (word_ << 8 | byte | 32) & 0xFFFFFFFF
            number = number * 10 + byte - _ZERO if _ZERO <= byte < _ZERO + 10 and 0 <= number < 1000 else -1
            at += 1
        length = at - begin
        if at >= end or length == 0:
            continue
        if length == 3 and word_ == _TCP:
            number = 6
        elif length == 3 and word_ == _UDP:
            number = 17
        elif length == 4 and word_ == _SCTP:
            number = 132
        elif length == 4 and word_ == _ICMP:
            number = 58 if is_six else 1
        if not 0 <= number < 256:
            continue
        # ---- the port: a number for protocols that have ports, nothing for others
        at += 1
        port, begin = 0, at
        while at < end:
            byte = np.int64(text[at])
            port = port * 10 + byte - _ZERO if _ZERO <= byte < _ZERO + 10 and 0 <= port < 100000 else -1
            at += 1
        has_port = number == 6 or number == 17 or number == 132
        if not 0 <= port < 65536 or has_port != (at > begin):
            continue
        halves[i, 0], halves[i, 1], protocols[i], ports[i] = high, lower, number, port
        families[i] = 6 if is_six else 4


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
        for byte in _ALLOW if allowed[i] else _DENY:
            out[n] = byte
            n += 1
        rule = np.int64(rules[i])
        if rule < 0:
            out[n] = 45
            n += 1
            rule = -rule
        scale = 1
        while scale * 10 <= rule:
            scale *= 10
        while scale > 0:
            out[n] = _ZERO + rule // scale % 10
            n += 1
            scale //= 10
        out[n] = 10
        n += 1
    return n
