"""What may come as a question or an answer of a check: understood, or refused with one error."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from hastfs.errors import ProtocolError
from hastfs.model import Checksum, Compression, Replication, Role
from hastfs.protocol import handshake
from hastfs.protocol.frame import MAX_NV, Frame, FrameReader, encode
from hastfs.protocol.handshake import Joining, Refusal
from hastfs.protocol.nv import Nv, NvType
from hastfs.protocol.probe import FORMAT, Answer, Component, Probe
from hastfs.volume import Buffer

TOKENS = st.binary(min_size=16, max_size=16)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
answers = st.builds(
    Answer,
    program=WORDS,
    protocol=st.integers(0, 255),
    time=st.integers(0, 1 << 33).map(float),
    role=st.sampled_from(Role),
    replication=st.sampled_from(Replication),
    checksum=st.sampled_from(Checksum),
    compression=st.sampled_from(Compression),
    timeout=U32,
    component=st.sampled_from(Component),
    datasize=U64,
    extentsize=U32,
    resuid=U64,
)
NAMES = (
    *("probe", "program", "version", "time", "role", "replication", "checksum", "compression", "timeout", "component"),
    *("datasize", "extentsize", "resuid", "errmsg", "wait", "resource", "token"),
)
VALUES = st.one_of(
    st.tuples(st.just(NvType.UINT8), st.integers(0, 255)),
    st.tuples(st.just(NvType.UINT32), U32),
    st.tuples(st.just(NvType.UINT64), U64),
    st.tuples(st.just(NvType.INT16), st.integers(-(1 << 15), (1 << 15) - 1)),
    st.tuples(
        st.just(NvType.STRING), st.one_of(WORDS, st.sampled_from(["memsync", "none", "hole", "usable", "\x1b[2J"]))
    ),
    st.tuples(st.just(NvType.UINT8_ARRAY), st.binary(min_size=1, max_size=20)),
)


def frame(message: list[Buffer]) -> Frame:
    reader = FrameReader(MAX_NV, 0)
    data = b"".join(message)
    while data:
        room = reader.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        reader.received(count)
        data = data[count:]
    found = reader.next()
    assert found is not None
    return found


@given(WORDS, TOKENS)
def test_a_question_comes_back_and_to_others_is_step_3_with_a_wrong_token(name: str, token: bytes) -> None:
    said = frame(Probe(name, token).encode())
    assert Probe.decode(said) == Probe(name, token)
    assert handshake.decode_opening(said) == Joining(name, token, False, 0, 0, 0)


@given(answers)
def test_an_answer_comes_back(answer: Answer) -> None:
    assert Answer.decode(frame(answer.encode())) == answer


def test_the_handshake_has_no_questions() -> None:
    assert Probe.decode(frame(Joining("a", bytes(16), True, 1, 2, 3).encode())) is None
    assert Probe.decode(frame(handshake.Hello("a", 3).encode())) is None


@given(answers, st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), VALUES), max_size=4))
def test_an_answer_of_anybody_is_understood_or_refused(
    answer: Answer, changes: dict[str, tuple[NvType, object] | None]
) -> None:
    """Some fields are others, of other types, or missing."""
    true = {
        "probe": (NvType.UINT8, FORMAT),
        "program": (NvType.STRING, answer.program),
        "version": (NvType.UINT8, answer.protocol),
        "time": (NvType.UINT64, int(answer.time)),
        "role": (NvType.UINT8, int(answer.role)),
        "replication": (NvType.STRING, answer.replication.value),
        "checksum": (NvType.STRING, answer.checksum.value),
        "compression": (NvType.STRING, answer.compression.value),
        "component": (NvType.STRING, answer.component.value),
        "timeout": (NvType.UINT32, answer.timeout),
        "datasize": (NvType.UINT64, answer.datasize),
        "extentsize": (NvType.UINT32, answer.extentsize),
        "resuid": (NvType.UINT64, answer.resuid),
    }
    nv = Nv()
    for name, said in (true | changes).items():
        if said is not None:
            nv.add(name, said[0], said[1])  # type: ignore[arg-type]
    message = frame(encode(nv.encode()))
    with contextlib.suppress(ProtocolError):
        found = Answer.decode(message)
        assert isinstance(found, Refusal) or (found.program.isprintable() and isinstance(found.component, Component))
    with contextlib.suppress(ProtocolError):
        Probe.decode(message)
