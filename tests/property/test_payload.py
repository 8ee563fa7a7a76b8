"""Data comes back however it was packed, and never if a byte of it changed under a checksum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastfs.errors import ProtocolError
from hastfs.model import Checksum, Compression
from hastfs.protocol.nv import Nv
from hastfs.protocol.payload import Packed, is_zero, pack, unpack

DATA = (
    st.binary(min_size=1, max_size=600)
    | st.integers(1, 600).map(bytes)
    | st.tuples(st.binary(min_size=1, max_size=600), st.integers(1, 20)).map(lambda parts: parts[0] * parts[1])
)
COMPRESSIONS = st.sampled_from(Compression)


def nv_of(packed: Packed) -> Nv:
    nv = Nv()
    for field in packed.fields:
        nv.add(*field)
    return Nv.decode(nv.encode())


@given(DATA, COMPRESSIONS, st.sampled_from(Checksum))
def test_data_comes_back(data: bytes, compression: Compression, checksum: Checksum) -> None:
    packed = pack(data, compression, checksum)
    payload = unpack(nv_of(packed), packed.data, len(data))
    assert payload.length == len(data)
    assert (bytes(payload.length) if payload.data is None else payload.data) == data
    assert (payload.data is None) == (compression is not Compression.NONE and not any(data))


@given(DATA, COMPRESSIONS, st.sampled_from([Checksum.CRC32, Checksum.SHA256]), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_is_noticed(
    data: bytes, compression: Compression, checksum: Checksum, where: int, change: int
) -> None:
    packed = pack(data, compression, checksum)
    damaged = bytearray(packed.data)
    damaged[where % len(damaged)] ^= change
    with pytest.raises(ProtocolError, match="checksum"):
        unpack(nv_of(packed), damaged, len(data))


@given(DATA)
def test_zero_means_that_every_byte_is(data: bytes) -> None:
    assert is_zero(data) == (not any(data))
