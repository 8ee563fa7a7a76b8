"""Metadata survives the disk, and no torn pair of copies is taken for something that was never written."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from hastfs.errors import MetadataError
from hastfs.model import Consistency, Generations, Role
from hastfs.ondisk.layout import COPY_SIZE, Layout
from hastfs.ondisk.metadata import Metadata, choose, decode_copy, encode

U64 = st.integers(0, (1 << 64) - 1)


@st.composite
def metadata(draw: st.DrawFn) -> Metadata:
    layout = Layout(draw(st.integers(8192, 1 << 50)), 1 << draw(st.integers(20, 30)))
    consistency = draw(st.sampled_from(Consistency))
    return Metadata(
        resource=draw(st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=100)),
        datasize=layout.datasize,
        extentsize=layout.extentsize,
        keepdirty=draw(st.integers(0, (1 << 32) - 1)),
        localoff=layout.localoff,
        resuid=draw(U64),
        localcnt=draw(U64),
        remotecnt=draw(U64),
        prevrole=draw(st.sampled_from(Role)),
        serial=draw(U64),
        generations=Generations(draw(U64), draw(U64), (draw(U64), draw(U64))),
        consistency=consistency,
        virgin=consistency is Consistency.CONSISTENT and draw(st.booleans()),
    )


@given(metadata())
def test_metadata_comes_back(written: Metadata) -> None:
    assert decode_copy(encode(written)) == written


@given(st.binary(max_size=COPY_SIZE))
def test_rubbish_is_refused_by_name(raw: bytes) -> None:
    try:
        decode_copy(raw.ljust(COPY_SIZE, b"\0"))
    except MetadataError as error:
        assert str(error).startswith(("not initialised", "damaged"))


@given(metadata(), metadata(), st.integers(0, 4), st.data())
def test_a_crash_between_and_within_two_writes_leaves_the_old_or_the_new(
    old: Metadata, new: Metadata, done: int, data: st.DataObject
) -> None:
    """The first copy is written, then the second; each may be torn. What is read is one of the two, whole."""
    assume(new.serial > old.serial)
    before, after = encode(old), encode(new)
    copies = [before, before]
    for which in range(done // 2):
        copies[which] = after
    if done % 2:
        torn = data.draw(st.integers(0, COPY_SIZE))
        copies[done // 2] = after[:torn] + before[torn:]
    assert choose(*copies)[0] in (old, new)
    if done >= 2:
        assert choose(*copies)[0] == new
