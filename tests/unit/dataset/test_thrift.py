"""Thrift's compact protocol: what an encoder writes is read again; of anything else there is only a ValueError."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.dataset.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I8,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    MAX_DEPTH,
    SET,
    STRUCT,
    TRUE,
    read_struct,
)

SIMPLE = {
    TRUE: st.booleans(),
    I8: st.integers(-(2**7), 2**7 - 1),
    I16: st.integers(-(2**15), 2**15 - 1),
    I32: st.integers(-(2**31), 2**31 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.floats(allow_nan=False),
    BINARY: st.binary(max_size=200),
}


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def zigzag(number: int) -> bytes:
    return varint(number * 2 if number >= 0 else -number * 2 - 1)


def written(kind: int, value) -> bytes:
    """A value as an element; lists and sets are (kind, elements), maps (kind, kind, pairs)."""
    match kind:
        case 1 | 2:
            return bytes([TRUE if value else FALSE])
        case 3:
            return struct.pack("b", value)
        case 4 | 5 | 6:
            return zigzag(value)
        case 7:
            return struct.pack("<d", value)
        case 8:
            return varint(len(value)) + value
        case 9 | 10:
            inner, elements = value
            size = len(elements)
            head = bytes([size << 4 | inner]) if size < 15 else bytes([15 << 4 | inner]) + varint(size)
            return head + b"".join(written(inner, element) for element in elements)
        case 11:
            keys, values, pairs = value
            inside = b"".join(written(keys, one) + written(values, other) for one, other in pairs)
            return varint(len(pairs)) + (bytes([keys << 4 | values]) + inside if pairs else b"")
    return written_struct(value)


def written_struct(fields: dict[int, tuple[int, object]]) -> bytes:
    """Fields in order of their numbers; those 16 or more above the one before have their number written out."""
    raw, last = b"", 0
    for number, (kind, value) in sorted(fields.items()):
        head = (TRUE if value else FALSE) if kind == TRUE else kind
        raw += bytes([(number - last) << 4 | head]) if number - last < 16 else bytes([head]) + zigzag(number)
        raw += b"" if kind == TRUE else written(kind, value)
        last = number
    return raw + b"\0"


def expected(kind: int, value):
    match kind:
        case 9 | 10:
            return [expected(value[0], element) for element in value[1]]
        case 11:
            return [(expected(value[0], one), expected(value[1], other)) for one, other in value[2]]
        case 12:
            return {(number, kind): expected(kind, inner) for number, (kind, inner) in value.items()}
    return value


def typed_values(depth: int):
    """(kind, value), `depth` levels of containers at most."""
    simple = st.sampled_from(sorted(SIMPLE)).flatmap(lambda kind: st.tuples(st.just(kind), SIMPLE[kind]))
    if depth == 0:
        return simple
    inner = st.sampled_from([*sorted(SIMPLE), STRUCT])
    lists = inner.flatmap(lambda kind: st.tuples(st.just(kind), st.lists(of_kind(kind, depth - 1), max_size=20)))
    maps = st.tuples(inner, inner).flatmap(
        lambda kinds: st.tuples(
            st.just(kinds[0]),
            st.just(kinds[1]),
            st.lists(st.tuples(*(of_kind(kind, depth - 1) for kind in kinds)), max_size=5),
        )
    )
    return st.one_of(
        simple,
        st.tuples(st.sampled_from([LIST, SET]), lists),
        st.tuples(st.just(MAP), maps),
        st.tuples(st.just(STRUCT), structs(depth - 1)),
    )


def of_kind(kind: int, depth: int):
    return structs(depth) if kind == STRUCT else SIMPLE[kind]


def structs(depth: int):
    return st.dictionaries(st.integers(1, 300), typed_values(depth), max_size=4)


@settings(max_examples=200, deadline=None)
@given(fields=structs(2), before=st.binary(max_size=5), behind=st.binary(max_size=5))
def test_what_is_written_is_read(fields, before, behind):
    raw = written_struct(fields)
    assert read_struct(before + raw + behind, len(before)) == (expected(STRUCT, fields), len(before + raw))


@settings(max_examples=100, deadline=None)
@given(fields=structs(2), data=st.data())
def test_a_struct_cut_short_is_malformed(fields, data):
    raw = written_struct(fields)
    with pytest.raises(ValueError, match="it "):
        read_struct(raw[: data.draw(st.integers(0, len(raw) - 1))])


@settings(max_examples=500, deadline=None)
@given(raw=st.binary(max_size=300))
def test_random_bytes_are_a_struct_or_malformed(raw):
    try:
        _, end = read_struct(raw)
        assert end <= len(raw)
    except ValueError:
        pass


@settings(max_examples=200, deadline=None)
@given(fields=structs(2), data=st.data())
def test_a_damaged_struct_is_a_struct_or_malformed(fields, data):
    raw = bytearray(written_struct(fields))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    test_random_bytes_are_a_struct_or_malformed.hypothesis.inner_test(bytes(raw))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "cut off"),
        (b"\x16" + b"\xff" * 10 + b"\x01\0", "more than 64 bits"),
        (b"\x16" + b"\xff" * 9 + b"\x02\0", "more than 64 bits"),
        (b"\x18\x7fabc\0", "cut off"),
        (b"\x18" + b"\xff" * 9 + b"\x01abc\0", "cut off"),
        (b"\x19\xf5\xff\xff\xff\x7f\0", "cut off"),
        (b"\x1b\xff\xff\x7f\x55\0", "cut off"),
        (b"\x1d\0\0", "type 13"),
        (b"\x10\0", "type 0"),
        (b"\x19\x10\0\0", "type 0"),
        (b"\x05\x01\0\0", "field -1"),
        (b"\x05\x80\x80\x04\0\0", "field 32768"),
        (b"\x1c" * 10_000, "nested"),
        (b"\x19" * 10_000, "nested"),
        (b"\x1b\x01\xbb" + b"\x01\xbb" * 5_000, "nested"),
    ],
)
def test_malformed(raw, match):
    with pytest.raises(ValueError, match=match):
        read_struct(raw)


def test_depth_up_to_the_bound_is_read():
    read_struct(b"\x1c" * MAX_DEPTH + b"\0" * (MAX_DEPTH + 1))
    with pytest.raises(ValueError, match="nested"):
        read_struct(b"\x1c" * (MAX_DEPTH + 1) + b"\0" * (MAX_DEPTH + 2))


def test_a_field_of_another_type_is_another_field():
    assert read_struct(b"\x15\x02\x06\x02\x04\0") == ({(1, I32): 1, (1, I64): 2}, 6)
