"""`hastctl status` on a terminal: a line for each resource, and below it what goes on or is wrong. Pure.

Everything is said in words; colours only make them easier to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from hastfs.cli import words
from hastfs.details import Details, Sync
from hastfs.protocol.control import ERROR_NO_RESOURCE, ResourceStatus

GOOD: Final = "green"
BUSY: Final = "yellow"
BAD: Final = "bold red"
QUIET: Final = "dim"
HEAD: Final = "bold"

_HEADER: Final = ("Name", "Role", "Connection", "Disk", "Peer disk", "Behind", "In sync")
_STYLES: Final = {
    "primary": "bold green",
    "secondary": "cyan",
    "connected": GOOD,
    "connecting": BUSY,
    "split-brain": BAD,
    "refused": BAD,
    "up-to-date": GOOD,
    "inconsistent": BUSY,
    "outdated": BUSY,
    "detached": BAD,
    words.NOTHING: QUIET,
    "unknown": QUIET,
    "init": QUIET,
}
_ERRORS: Final = {ERROR_NO_RESOURCE: "hastd has no resource of this name."}
_BAR: Final = (10, 40)
"""Characters: the shortest and the longest progress bar."""


class Look(NamedTuple):
    """What hastd said of one resource."""

    status: ResourceStatus
    details: Details


def look(status: ResourceStatus, details: Details | None) -> Look:
    """A hastd that knows of no details (an older one, during an upgrade) has told what counts."""
    if details is None:
        connection = "connected" if status.status == "complete" else "none"
        details = Details(role=status.role or "init", connection=connection, behind=status.dirty or 0)
    return Look(status, details)


def render(looks: Sequence[Look], *, width: int, now: float, ascii_only: bool = False) -> Text:
    """Lines of at most `width` characters, but for commands, which are copied better in one piece.

    Without room for columns each resource gets a few lines of text. `now`: seconds since the epoch.
    """
    rows = [_cells(one, now) for one in looks]
    widths, gap = _measure(rows, width)
    lines: list[Text] = [_line(_HEADER, widths, gap, HEAD)] if gap else []
    for one, row in zip(looks, rows, strict=True):
        lines += [_line(row, widths, gap)] if gap else _prose(row, width)
        lines += remarks(one, width=width, ascii_only=ascii_only)
    return Text("\n").join(lines)


def columns(looks: Sequence[Look], *, width: int, now: float) -> list[Text]:
    """The header and one line for each; what has no room is cut off at the right."""
    rows = [_cells(one, now) for one in looks]
    widths, gap = _measure(rows, width)
    lines = [_line(_HEADER, widths, gap or 1, HEAD), *(_line(row, widths, gap or 1) for row in rows)]
    for line in lines:
        line.truncate(width)
    return lines


def _measure(rows: Sequence[tuple[str, ...]], width: int) -> tuple[list[int], int]:
    """The widths of the columns, and what is between them; 0 if there is no room for all."""
    widths = [max(map(cell_len, column)) for column in zip(_HEADER, *rows, strict=True)]
    return widths, next((gap for gap in (3, 2, 1) if sum(widths) + gap * (len(widths) - 1) <= width), 0)


def remarks(one: Look, *, width: int, ascii_only: bool = False) -> Iterator[Text]:
    """A resync under way, what is wrong, and the command that helps: lines of their own, indented."""
    if one.details.sync is not None:
        yield from progress(one.details.sync, width=width, ascii_only=ascii_only)
    problem = one.details.problem
    if one.status.error:
        problem = one.status.errmsg or _ERRORS.get(one.status.error, f"hastd answers with error {one.status.error}.")
    for number, part in enumerate(_wrap(printable(problem).split(), " ", width - 4)):
        yield Text("  ! " if number == 0 else "    ", BAD).append(part, severity(one))
    if one.details.remedy:
        yield Text.assemble(("    run: ", QUIET), (printable(one.details.remedy), HEAD))


def progress(sync: Sync, *, width: int, ascii_only: bool = False) -> Iterator[Text]:
    """`Resync to peer ━━━━━━╌╌╌╌ 63.1 %  98 MiB/s  1.2 GiB left  12 s to go`; without room for a bar in words alone."""
    way = {"to-peer": "to", "from-peer": "from"}.get(sync.direction, "with")
    done = max(sync.total - sync.left, 0)
    facts = [words.percent(done, sync.total), words.rate(sync.rate), f"{words.size(sync.left)} left"]
    if sync.eta is not None:
        facts.append(f"{words.span(sync.eta)} to go")
    what = f"  Resync {way} peer"
    room = min(width - len(what) - len("  ".join(facts)) - 2, _BAR[1])
    if room >= _BAR[0]:
        yield Text.assemble((what, BUSY), " ", bar(done, sync.total, room, ascii_only), f" {'  '.join(facts)}")
    else:
        yield from (Text(f"  {part}", BUSY) for part in _wrap([what.strip(), *facts], "  ", width - 2))


def bar(done: float, total: float, width: int, ascii_only: bool) -> Text:
    """`width` characters; what is done differs from what is not in more than the colour."""
    full, rest = ("#", ".") if ascii_only else ("━", "╌")
    filled = int(width * done / total) if total else width
    return Text.assemble((full * filled, GOOD), (rest * (width - filled), QUIET))


def style(word: str) -> str:
    """Of a word for a state."""
    return _STYLES.get(word, "")


def severity(one: Look) -> str:
    """The style of what is wrong: does somebody have to do something, or does it mend itself?"""
    grave = {"split-brain", "refused", "detached"}
    return (
        BAD if one.status.error or {one.details.connection, one.details.disk, one.details.peer_disk} & grave else BUSY
    )


def _cells(one: Look, now: float) -> tuple[str, ...]:
    status, details = one
    if status.error:
        return (status.resource, "error", *[words.NOTHING] * (len(_HEADER) - 2))
    idle = details.role == "init"
    return (
        status.resource,
        details.role,
        words.NOTHING if details.connection == "none" else details.connection,
        *(words.NOTHING if idle and disk == "unknown" else disk for disk in (details.disk, details.peer_disk)),
        words.size(details.behind) if details.role == "primary" else words.NOTHING,
        words.ago(details.last_in_sync, now),
    )


def _line(cells: Sequence[str], widths: Sequence[int], gap: int, all_in: str = "") -> Text:
    line = Text()
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        line.append(cell, all_in or _style_of(number, cell))
        if number < len(cells) - 1:
            line.append(" " * (width - cell_len(cell) + gap))
    return line


def _style_of(column: int, cell: str) -> str:
    if column == 0:
        return HEAD
    return BAD if cell == "error" else style(cell)


def _prose(cells: Sequence[str], width: int) -> Iterator[Text]:
    name, *rest = cells
    yield Text(name, HEAD)
    said = [f"{what.lower()} {word}" for what, word in zip(_HEADER[1:], rest, strict=True) if word != words.NOTHING]
    yield from (Text(f"  {part}") for part in _wrap(said, ", ", width - 3))


def printable(text: str) -> str:
    """What others may have written shows itself instead of steering the terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _wrap(parts: Sequence[str], between: str, width: int) -> Iterator[str]:
    """Lines of at most `width` characters; no part is cut or torn apart."""
    line = ""
    for part in parts:
        longer = f"{line}{between}{part}" if line else part
        if line and cell_len(longer) > width:
            yield f"{line}{between}".rstrip()
            longer = part
        line = longer
    if line:
        yield line
