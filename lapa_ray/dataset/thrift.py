"""Thrift's compact protocol, in which Parquet writes its footer and the headers of its pages: bytes in, fields out.

Arrow ends the whole process over some damaged footers, before anyone can ask it what is wrong. Of any bytes nothing can
come here but their fields or a `ValueError`: nothing is read beyond them, no number is longer than 64 bits, nesting is
bounded, and a list has no more elements than there are bytes left. See thrift/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""Types, as they stand in the head of a field or list; a list of bools has either of theirs."""
MAX_DEPTH = 32
"""Structs and containers in each other; Parquet has some ten."""
MAX_VARINT = 10
"""Bytes that 64 bits take at most, seven in each."""

Fields = dict[tuple[int, int], Any]
"""Values by number and type: a field of another type is another field, which readers pass over, as Thrift's own do."""


def read_struct(raw: bytes, start: int = 0) -> tuple[Fields, int]:
    """The struct that begins at `start`, and where it ends. Raises `ValueError` if it is malformed or cut off."""
    try:
        return _struct(raw, start, 0)
    except (IndexError, struct.error) as error:
        raise ValueError("it is cut off") from error


def _struct(raw: bytes, at: int, depth: int) -> tuple[Fields, int]:
    fields: Fields = {}
    number = 0
    while head := raw[at]:
        at += 1
        kind = head & 15
        if head > kind:
            number += head >> 4
        else:
            number, at = _field_number(raw, at)
        if kind in {TRUE, FALSE}:  # a field that is a bool has its value in its type
            fields[number, TRUE] = kind == TRUE
        else:
            fields[number, kind], at = _value(raw, at, kind, depth)
    return fields, at + 1


def _field_number(raw: bytes, at: int) -> tuple[int, int]:
    number, at = _integer(raw, at)
    if not 0 <= number < 2**15:
        raise ValueError(f"it has a field {number}")
    return number, at


def _value(raw: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A value of a type, and where it ends."""
    if I16 <= kind <= I64:
        return _integer(raw, at)
    if kind == BINARY:
        return _binary(raw, at)
    if TRUE <= kind <= I8:
        return (raw[at] - ((raw[at] & 128) << 1) if kind == I8 else raw[at] == TRUE), at + 1
    if kind == DOUBLE:
        return struct.unpack_from("<d", raw, at)[0], at + 8
    if depth == MAX_DEPTH:
        raise ValueError("it is nested too deep")
    if kind == STRUCT:
        return _struct(raw, at, depth + 1)
    if kind == MAP:
        return _map(raw, at, depth + 1)
    if kind in {LIST, SET}:
        return _list(raw, at, depth + 1)
    raise ValueError(f"it has a type {kind}")


def _integer(raw: bytes, at: int) -> tuple[int, int]:
    """A signed number, zigzag."""
    value, at = _varint(raw, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < 128:
        return byte, at + 1
    value = byte & 127
    for place in range(1, MAX_VARINT):
        byte = raw[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            break
    if byte >= 128 or value >= 2**64:
        raise ValueError("it has a number of more than 64 bits")
    return value, at + place + 1


def _size(raw: bytes, at: int) -> tuple[int, int]:
    """A number of bytes or elements, of which each takes a byte at least."""
    size, at = _varint(raw, at)
    if size > len(raw) - at:
        raise ValueError("it is cut off")
    return size, at


def _binary(raw: bytes, at: int) -> tuple[bytes, int]:
    size, at = _size(raw, at)
    return raw[at : at + size], at + size


def _list(raw: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    """A list or a set."""
    size, kind = raw[at] >> 4, raw[at] & 15
    at += 1
    if size == 15:
        size, at = _size(raw, at)
    values = []
    for _ in range(size):
        value, at = _value(raw, at, kind, depth)
        values.append(value)
    return values, at


def _map(raw: bytes, at: int, depth: int) -> tuple[list[tuple[Any, Any]], int]:
    """A map, as pairs: what its keys are need not be hashable."""
    size, at = _size(raw, at)
    if not size:
        return [], at
    kinds, at = raw[at], at + 1
    pairs = []
    for _ in range(size):
        key, at = _value(raw, at, kinds >> 4, depth)
        value, at = _value(raw, at, kinds & 15, depth)
        pairs.append((key, value))
    return pairs, at
