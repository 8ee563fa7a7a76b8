"""nv lists: whatever was put in comes out; whatever comes in is either understood or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hastfs.errors import ProtocolError
from hastfs.protocol.nv import Nv, NvType, Value

Entry = tuple[str, NvType, Value]

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)
FREQUENT = st.sampled_from(["cmd", "seq", "offset", "length", "size", "memsync"])


def integers(kind: NvType) -> st.SearchStrategy[int]:
    bits = 8 << ((kind - 1) % 8 // 2)
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if kind & 1 else st.integers(0, (1 << bits) - 1)


def values(kind: NvType) -> st.SearchStrategy[Value]:
    if kind is NvType.STRING:
        return TEXT
    if kind < NvType.INT8_ARRAY:
        return integers(kind)
    if kind is NvType.UINT8_ARRAY:
        return st.binary(min_size=1, max_size=40)
    return st.lists(integers(kind), min_size=1, max_size=9).map(tuple)


ENTRIES: st.SearchStrategy[list[Entry]] = st.lists(
    st.sampled_from(NvType).flatmap(lambda kind: st.tuples(FREQUENT | TEXT, st.just(kind), values(kind))), max_size=8
)


def listed(entries: list[Entry]) -> Nv:
    nv = Nv()
    for entry in entries:
        nv.add(*entry)
    return nv


@given(ENTRIES, st.integers(0, 40))
def test_every_list_comes_back_and_padding_behind_it_is_ignored(entries: list[Entry], padding: int) -> None:
    raw = listed(entries).encode()
    decoded = Nv.decode(memoryview(raw + bytes(padding)))
    assert list(decoded) == entries
    assert decoded.encoded_size == len(raw)
    assert decoded.encode() == raw


@given(ENTRIES)
def test_the_first_entry_of_a_name_decides(entries: list[Entry]) -> None:
    nv = Nv.decode(listed(entries).encode())
    first: dict[str, tuple[NvType, Value]] = {}
    for name, kind, value in entries:
        first.setdefault(name, (kind, value))
    for name, (kind, value) in first.items():
        for other in NvType:
            assert nv.get(name, other) == (value if other is kind else None)


@given(st.binary(max_size=200))
def test_rubbish_is_understood_or_refused(raw: bytes) -> None:
    try:
        nv = Nv.decode(raw)
    except ProtocolError:
        return
    assert list(Nv.decode(nv.encode())) == list(nv)


@given(ENTRIES, st.data())
def test_a_damaged_list_is_understood_or_refused(entries: list[Entry], data: st.DataObject) -> None:
    raw = bytearray(listed(entries).encode() or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        nv = Nv.decode(raw)
    except ProtocolError:
        return
    assert list(Nv.decode(nv.encode())) == list(nv)
