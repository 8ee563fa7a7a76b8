"""The original's name-value lists: every type once, and what it takes and refuses of malformed ones."""

from __future__ import annotations

import pytest

from hastfs.errors import ProtocolError
from hastfs.protocol.nv import Nv
from tests.interop.original import VECTORS, fields

ALL_TYPES = VECTORS["nv"]


def test_every_type_is_read_as_the_original_wrote_it() -> None:
    assert list(Nv.decode(bytes.fromhex(ALL_TYPES["all_types"]))) == fields(ALL_TYPES["fields"])


def test_a_list_with_the_host_order_flag_reads_the_same() -> None:
    assert list(Nv.decode(bytes.fromhex(ALL_TYPES["host_order"]))) == fields(ALL_TYPES["fields"])


def test_what_we_write_differs_only_in_padding() -> None:
    nv = Nv()
    for name, kind, value in fields(ALL_TYPES["fields"]):
        nv.add(name, kind, value)
    theirs = bytes.fromhex(ALL_TYPES["all_types"])
    ours = nv.encode()
    assert len(ours) == len(theirs)
    assert all(ours[at] in (theirs[at], 0) for at in range(len(ours)))
    assert list(Nv.decode(ours)) == list(Nv.decode(theirs))


@pytest.mark.parametrize(
    ("raw", "accepted"), [(v[1], v[2]) for v in VECTORS["nv_validation"]], ids=[v[0] for v in VECTORS["nv_validation"]]
)
def test_malformed_lists_are_refused_where_the_original_refuses(raw: str, accepted: bool) -> None:
    if accepted:
        Nv.decode(bytes.fromhex(raw))
    else:
        with pytest.raises(ProtocolError):
            Nv.decode(bytes.fromhex(raw))
