"""A stream of messages cut into receives anywhere comes out as the same messages, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hastfs.errors import ProtocolError
from hastfs.protocol.frame import HEAD, FrameReader, encode
from hastfs.protocol.nv import NvType, encode_entry

MAX_NV = 512
MAX_DATA = 300_000
BOUND = HEAD.size + MAX_NV + MAX_DATA + 64 * 1024

SIZES = st.integers(0, 40) | st.sampled_from([512, 4096, 65536, 131072, MAX_DATA - 1, MAX_DATA])
CUTS = st.sampled_from([1, 3, 5, 26, 700, 5000, 70_000, 1 << 20])


def message(seq: int, size: int) -> bytes:
    nv = encode_entry("seq", NvType.UINT64, seq)
    if size:
        nv += encode_entry("size", NvType.UINT32, size)
    return b"".join(bytes(part) for part in encode(nv, bytes([seq % 251 + 1]) * size))


@given(st.lists(SIZES, max_size=8), st.lists(CUTS, min_size=1, max_size=6))
def test_messages_come_out_as_they_went_in(sizes: list[int], cuts: list[int]) -> None:
    raw = b"".join(message(seq, size) for seq, size in enumerate(sizes))
    if len(raw) > 200_000:
        cuts = [max(cut, 700) for cut in cuts]
    reader = FrameReader(MAX_NV, MAX_DATA)
    seen = []
    at = turn = 0
    while at < len(raw):
        room = reader.buffer()
        assert 0 < len(room) <= BOUND
        count = min(len(room), cuts[turn % len(cuts)], len(raw) - at)
        room[:count] = raw[at : at + count]
        reader.received(count)
        at, turn = at + count, turn + 1
        while (frame := reader.next()) is not None:
            seq = frame.nv.get_int("seq", NvType.UINT64)
            assert seq is not None
            assert frame.data == bytes([seq % 251 + 1]) * len(frame.data)
            seen.append((seq, len(frame.data)))
    assert seen == list(enumerate(sizes))
    assert not reader.pending


@given(st.binary(max_size=2000))
def test_rubbish_costs_no_more_than_a_message(raw: bytes) -> None:
    reader = FrameReader(MAX_NV, MAX_DATA)
    at = 0
    try:
        while at < len(raw):
            room = reader.buffer()
            assert 0 < len(room) <= BOUND
            count = min(len(room), len(raw) - at)
            room[:count] = raw[at : at + count]
            reader.received(count)
            at += count
            while reader.next() is not None:
                pass
    except ProtocolError:
        pass
