from __future__ import annotations

import pytest

from hastfs.errors import ProtocolError
from hastfs.protocol.nv import Nv, NvType, Value, encode_entry

CMD = bytes.fromhex("020401000000636d6400000000000500000000000000")


def test_an_entry_is_head_name_and_data_each_padded_to_eight() -> None:
    assert encode_entry("cmd", NvType.UINT8, 5) == CMD


def test_a_value_of_another_type_counts_as_missing() -> None:
    nv = Nv.decode(CMD)
    assert nv.get_int("cmd", NvType.UINT8) == 5
    assert nv.get_int("cmd", NvType.UINT16) is None
    assert nv.get_str("cmd") is None
    assert nv.get_bytes("cmd") is None
    assert nv.get_ints("cmd", NvType.UINT64_ARRAY) is None
    assert nv.get("other", NvType.UINT8) is None


def test_of_entries_with_the_same_name_the_first_counts() -> None:
    nv = Nv.decode(CMD + encode_entry("cmd", NvType.UINT8, 6) + encode_entry("cmd", NvType.STRING, "x"))
    assert nv.get_int("cmd", NvType.UINT8) == 5
    assert nv.get_str("cmd") is None
    assert len(nv) == 3


def test_a_zero_type_ends_the_list_even_where_no_entry_would_fit() -> None:
    nv = Nv.decode(CMD + b"\0" + b"\xff" * 9)
    assert len(nv) == 1
    assert nv.encoded_size == len(CMD)


@pytest.mark.parametrize("cut", range(1, len(CMD)))
def test_a_list_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(ProtocolError):
        Nv.decode(CMD[:cut])


@pytest.mark.parametrize("cut", range(1, len(CMD)))
def test_a_frequent_entry_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(ProtocolError):
        Nv.decode(encode_entry("seq", NvType.UINT64, 1)[:cut])


def test_rubbish_behind_a_name_and_behind_the_data_does_not_matter() -> None:
    soiled = bytearray(CMD)
    soiled[10:14] = b"\xde\xad\xbe\xef"
    soiled[15:22] = b"\xff" * 7
    assert Nv.decode(soiled).get_int("cmd", NvType.UINT8) == 5


def test_the_host_order_flag_alone_is_no_type() -> None:
    with pytest.raises(ProtocolError, match="unknown type 0"):
        Nv.decode(b"\x80" + CMD[1:])


def test_a_string_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        Nv.decode(encode_entry("s", NvType.STRING, "xy").replace(b"xy", b"\xff\xfe"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (NvType.UINT8, 256),
        (NvType.UINT8, -1),
        (NvType.INT16, 1 << 15),
        (NvType.UINT8, "5"),
        (NvType.STRING, "a\0b"),
        (NvType.STRING, 5),
        (NvType.UINT8_ARRAY, b""),
        (NvType.UINT64_ARRAY, ()),
        (NvType.UINT64_ARRAY, (-1,)),
        (NvType.UINT64_ARRAY, b"12345678"),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_our_own_mistake(kind: NvType, value: Value) -> None:
    nv = Nv()
    nv.add("name", kind, value)
    with pytest.raises(ValueError, match="name"):
        nv.encode()


@pytest.mark.parametrize("name", ["n" * 255, "a\0b"])
def test_a_name_that_does_not_fit_is_our_own_mistake(name: str) -> None:
    with pytest.raises(ValueError, match="name of an nv entry"):
        encode_entry(name, NvType.UINT8, 1)


def test_the_longest_name_fits() -> None:
    assert Nv.decode(encode_entry("n" * 254, NvType.UINT8, 1)).get_int("n" * 254, NvType.UINT8) == 1
