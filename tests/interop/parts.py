"""The two parts of a captured conversation: the test plays one, a node of ours has the other.

What ours says is compared with the capture byte for byte, given the same token, resuid and sequence numbers; but for
the padding of names, which is rubbish in the original. `DIFFERENCES` are the departures that are meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.interop import transcripts
from tests.interop.original import entry, number, tidied, with_entry
from tests.interop.stage import Lines, Peer, Stage, call
from tests.interop.transcripts import DELETE, DONE, FLUSH, KEEPALIVE, WRITE, Step, exchanges, transcript


class PrimarysPart:
    """Says what the primary said and compares what our secondary answers."""

    def __init__(self, stage: Stage, lines: Lines) -> None:
        self._stage = stage
        self.lines = lines
        self._tokens: dict[bytes, bytes] = {}  # ours by the captured

    def perform(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step.what:
                case transcripts.OPEN:
                    self.lines[step.connection] = call(self._stage.port)
                case transcripts.PRIMARY:
                    with contextlib.suppress(ConnectionError):  # some is said to the deaf, after they hung up
                        self.lines[step.connection].say(self.ours(step.raw))
                case transcripts.SECONDARY:
                    heard = self.lines[step.connection].hear()
                    token = entry(step.raw, "token")
                    if token is not None:
                        self._tokens[token] = entry(heard, "token") or b""
                    assert heard == tidied(self.ours(step.raw))
                case transcripts.PRIMARY_CLOSES:
                    self.lines[step.connection].hang_up()
                case transcripts.SECONDARY_CLOSES:
                    assert self.lines[step.connection].is_closed()

    def ours(self, raw: bytes) -> bytes:
        """The captured message with the token that we were given."""
        token = entry(raw, "token")
        return raw if token is None else with_entry(raw, "token", self._tokens.get(token, token))


class SecondarysPart:
    """Says what the secondary said and compares what our primary says."""

    def __init__(self, stage: Stage, peer: Peer, lines: Lines) -> None:
        self._stage = stage
        self._peer = peer
        self.lines = lines
        self._deletes: list[int] = []  # sequence numbers; ours are ahead of the captured by one for each before

    def perform(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step.what:
                case transcripts.OPEN:
                    self.lines[step.connection] = self._peer.accept()
                case transcripts.PRIMARY:
                    assert self.lines[step.connection].hear() == self._ours(step)
                    if step.command == DELETE:
                        self._zeros_follow(step)
                case transcripts.SECONDARY:
                    self.lines[step.connection].say(self._renumbered(step.raw))
                case transcripts.PRIMARY_CLOSES:
                    assert self.lines[step.connection].is_closed()
                case transcripts.SECONDARY_CLOSES:
                    self.lines[step.connection].hang_up()

    def _ours(self, step: Step) -> bytes:
        """What the captured message is in our words."""
        raw = self._renumbered(step.raw)
        if step.has("version"):
            raw = with_entry(raw, "version", 3)  # DIFFERENCES["version"]
        if step.has("virgin"):  # the identity of a new pair is a random number
            raw = with_entry(raw, "resuid", self._stage.found().numbers["resuid"])
        return tidied(raw)

    def _renumbered(self, raw: bytes) -> bytes:
        seq = number(raw, "seq")
        return raw if seq is None else with_entry(raw, "seq", seq + sum(delete < seq for delete in self._deletes))

    def _zeros_follow(self, delete: Step) -> None:
        """DIFFERENCES["delete"]."""
        self._deletes.append(delete.number("seq"))
        ours = delete.number("seq") + len(self._deletes)
        zeros = write_of(delete.range.start, bytes(delete.number("length")))
        assert self.lines[delete.connection].hear() == zeros.saying(seq=ours).raw
        self.lines[delete.connection + 1].say(with_entry(DONE, "seq", ours))

    def resync(self, first: int, captured: Sequence[Step]) -> list[bytes]:
        """Answers the requests of a resync as the original did, up to and including the FLUSH. Returns them by offset.

        `first` is the connection of the requests. DIFFERENCES["resync"]: each has a number of its own, which is
        replaced by the captured 1, and they need not come in order. DIFFERENCES["flush"].
        """
        answers = {asked.number("offset"): reply.raw for asked, reply in exchanges(captured)}
        asked: dict[int, bytes] = {}
        seqs: set[int] = set()
        while True:
            heard = self._request(first)
            seq, offset = number(heard, "seq") or 0, number(heard, "offset") or 0
            assert seq not in seqs
            seqs.add(seq)
            if number(heard, "cmd") == FLUSH:
                self.lines[first + 1].say(with_entry(DONE, "seq", seq))
                return [asked[offset] for offset in sorted(asked)]
            assert offset not in asked
            asked[offset] = with_entry(heard, "seq", 1)
            self.lines[first + 1].say(with_entry(answers[offset], "seq", seq))

    def _request(self, first: int) -> bytes:
        """The next one; on a slow machine a keepalive may come before it."""
        while number(heard := self.lines[first].hear(), "cmd") == KEEPALIVE:
            pass
        return heard

    @contextlib.contextmanager
    def flushing(self, first: int) -> Iterator[None]:
        """Meanwhile answers FLUSHes, and nothing but FLUSHes; then the link is cut."""

        def answer() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    heard = self._request(first)
                    assert number(heard, "cmd") == FLUSH
                    self.lines[first + 1].say(with_entry(DONE, "seq", number(heard, "seq") or 0))

        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(answer)
            try:
                yield
            finally:
                self.lines[first].cut()
            answering.result()


def write_of(offset: int, data: bytes) -> Step:
    """A WRITE of `data` as the original says it, without compression and checksum; `seq` is 1."""
    captured = next(step for step in transcript("pipe_none_none") if step.command == WRITE)
    head = captured.raw[: -len(captured.data)]
    request = Step(captured.connection, captured.what, tidied(head + data))
    return request.saying(offset=offset, length=len(data), size=len(data))
