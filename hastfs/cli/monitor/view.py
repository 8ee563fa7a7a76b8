"""The monitor's screen as text: `render` gives as many lines as the terminal has. Pure.

From top to bottom: the resources; the chosen one's traffic, latencies, queues and dirty extents; events; the keys.
What goes on is told by words and shapes, colours only make them easier to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from hastfs.cli import table, words
from hastfs.cli.monitor.rates import Interval, Track
from hastfs.cli.monitor.scene import Happening, Scene
from hastfs.cli.table import BAD, BUSY, GOOD, HEAD, QUIET, Look
from hastfs.details import MAX_CELLS

_KEYS: Final = (("q", "quit"), ("up/down/tab", "choose"), ("p", "pause"), ("?", "help"))
_HELP: Final = """\
Keys
  q            quit
  up, down     choose a resource (also k, j, tab)
  p, space     pause: nothing on the screen changes until you press it again
  ?            this page; any key goes back

Read, write  requests of applications and their bytes, a second
Sent         bytes on the way to the other node, a second; Received: from it
Latency      of the last second: half of all requests (p50), 99 % of them (p99),
             all but one in a thousand (p99.9) took no longer. "write" is what
             applications wait, "local" and "remote" are the nodes' shares of it
Queues       requests that are not answered yet; how many of them are at this
             node's disk, at the other node, held until one of these is back
Dirty        extents that the other node may lack, from the disk's begin to its
             end: the fuller a cell, the more of it is
Behind       what would be lost if this node were lost now
"""
_EVENTS: Final = 3
"""Lines of the event log, its title included, that the list of resources leaves free."""
_CURVE: Final = ("▁▂▃▄▅▆▇█", ".:-=+*#@")
_HEAT: Final = ("·░▒▓█", ".:+*#")
_HEAT_STYLES: Final = (QUIET, "green", "yellow", "red", "bold red")
_CALM_STYLES: Final = (QUIET, *["cyan"] * 4)
"""While nothing is missing on the other node: what is marked is being written."""
_HEAT_FROM: Final = (1, 50, 250, 600)
"""Per mille that are dirty, from which on a cell is of the second to the last kind."""
_PANEL: Final = 44
"""Characters: traffic on the left, latencies on the right."""


def cells(width: int, height: int) -> int:
    """How many cells the map of dirty extents has."""
    return min(max(width - 2, 1) * _map_lines(height), MAX_CELLS)


def render(scene: Scene, *, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """Exactly `height` lines of at most `width` characters."""
    top = _title(scene, width)
    bottom = _footer(width)
    inner = max(height - 2, 0)
    if scene.help:
        middle = [Text(line) for line in _HELP.splitlines()]
    else:
        below = _chosen(scene, width, height, ascii_only)
        rows = max(inner - len(below) - _EVENTS - 1, 1)
        above = _resources(scene, width, rows)
        middle = [*above, *below]
        middle += _log(scene.events, width, inner - len(middle), ascii_only)
    middle = middle[:inner] + [Text()] * (inner - len(middle))
    lines = [top, *middle, bottom][:height]
    for line in lines:
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return lines


# -- the resources


def _resources(scene: Scene, width: int, rows: int) -> list[Text]:
    """With its header; `rows` resources at most, the chosen one among them."""
    looks = [track.look for track in scene.tracks.values() if track.look is not None]
    if not looks:
        return [Text("No resources.", QUIET)]
    lines = table.columns(looks, width=width - 2, now=scene.now)
    first = max(0, min(scene.chosen - rows // 2, len(looks) - rows))
    shown = [Text("  ") + lines[0]]
    for number in range(first, min(first + rows, len(looks))):
        marked = number == scene.chosen
        shown.append(Text("> " if marked else "  ", HEAD) + lines[1 + number])
    return shown


# -- the chosen one


def _chosen(scene: Scene, width: int, height: int, ascii_only: bool) -> list[Text]:
    track = scene.track
    if track is None or track.look is None:
        return []
    look = track.look
    return [
        _rule(look.status.resource, _facts(look, scene.now), width, ascii_only),
        *_beside(_traffic(track, ascii_only), _latencies(track.interval), width),
        _queues(look),
        *_dirty(track, look, width, height, ascii_only),
        *table.remarks(look, width=width, ascii_only=ascii_only),
    ]


def _facts(look: Look, now: float) -> str:
    details = look.details
    facts = [words.size(details.size)] if details.size else []
    facts += [f"replication {look.status.replication}"] if look.status.replication else []
    if details.connected_since is not None:
        facts.append(f"connected for {words.span(max(now - details.connected_since, 0))}")
    return ", ".join(facts)


def _traffic(track: Track, ascii_only: bool) -> Iterator[Text]:
    yield Text(f"{'':12}{'IOPS':>6} {'bytes':>11}", QUIET)
    interval = track.interval
    for label, word, history in (("Read", "read", track.reads), ("Write", "write", track.writes)):
        curve = _curve(history, 12, ascii_only)
        yield (
            _flow(label, interval.counters.get(f"{word}s"), interval.counters.get(f"{word}_bytes")) + Text(" ") + curve
        )
    yield _flow("Flush", interval.counters.get("flushes"), None)
    yield _flow("Sent", None, interval.counters.get("sent_bytes"))
    yield _flow("Received", None, interval.counters.get("received_bytes"))


def _flow(label: str, operations: float | None, count: float | None) -> Text:
    number = "" if operations is None else words.number(operations)
    return Text.assemble(
        f"{label:12}", (f"{number:>6}", HEAD), " ", f"{'' if count is None else words.rate(count):>11}"
    )


def _latencies(interval: Interval) -> Iterator[Text]:
    yield Text(f"{'Latency':10}{'p50':>8}{'p99':>8}{'p99.9':>8}", QUIET)
    named = (("read", "read"), ("write", "total"), ("  local", "local"), ("  remote", "remote"), ("flush", "flush"))
    for label, name in named:
        histogram = interval.latency.get(name)
        shares = [histogram.percentile(share) if histogram else None for share in (0.5, 0.99, 0.999)]
        line = Text(f"{label:10}")
        for seconds in shares:
            line.append(f"{words.latency(seconds):>8}", _slow(seconds))
        yield line


def _slow(seconds: float | None) -> str:
    if seconds is None:
        return QUIET
    return "" if seconds < 0.1 else BUSY if seconds < 1 else BAD


def _queues(look: Look) -> Text:
    gauges = look.details.gauges
    named = (("requests", "requests"), ("local", "local_queue"), ("remote", "remote_queue"), ("held", "held"))
    line = Text(f"{'Queues':10}")
    for label, name in named:
        count = gauges.get(name, 0)
        line.append(f"  {label} ").append(words.number(count), HEAD if count else QUIET)
    return line.append("  to send ").append(words.size(gauges.get("send_queue_bytes", 0)))


def _dirty(track: Track, look: Look, width: int, height: int, ascii_only: bool) -> Iterator[Text]:
    marked = look.details.gauges.get("dirty_bytes", look.status.dirty or 0)
    shapes = _HEAT[ascii_only]
    calm = look.details.connection == "connected" and not look.details.behind and look.details.sync is None
    styles = _CALM_STYLES if calm else _HEAT_STYLES
    legend = Text.assemble(f"{'Dirty':12}", (words.size(marked), HEAD))
    if calm and marked:
        legend.append("  being written, nothing missing", QUIET)
    if track.dirty_map:
        legend.append(" " * max(width - cell_len(legend.plain) - 23, 2)).append("clean ", QUIET)
        for shape, style in zip(shapes, styles, strict=True):
            legend.append(shape * 2, style)
        legend.append(" dirty", QUIET)
    yield legend
    across = max(width - 2, 1)
    found = track.dirty_map[: across * _map_lines(height)]
    for start in range(0, len(found), across):
        line = Text(" ")
        for kind, run in _runs(map(_heat, found[start : start + across])):
            line.append(shapes[kind] * run, styles[kind])
        yield line


def _map_lines(height: int) -> int:
    return 2 if height < 30 else 4


def _heat(permille: int) -> int:
    return sum(permille >= least for least in _HEAT_FROM)


def _runs(kinds: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Equal neighbours as one: (kind, how many)."""
    last, count = -1, 0
    for kind in kinds:
        if kind != last and count:
            yield last, count
            count = 0
        last, count = kind, count + 1
    if count:
        yield last, count


def _curve(history: Sequence[float], width: int, ascii_only: bool) -> Text:
    """The last values, each as high as its share of the highest one remembered."""
    shapes = _CURVE[ascii_only]
    highest = max(history, default=0.0)
    drawn = "".join(
        shapes[min(int(value / highest * len(shapes)), len(shapes) - 1)] if value > 0 else " "
        for value in list(history)[-width:]
    )
    return Text(f"{drawn:>{width}}", GOOD)


# -- the rest


def _log(events: Sequence[Happening], width: int, lines: int, ascii_only: bool) -> list[Text]:
    """`lines` lines with their title, the newest event last."""
    if lines < 2:
        return []
    shown = list(events)[-(lines - 1) :]
    log = [_rule("Events", "" if events else "none yet", width, ascii_only)]
    for event in shown:
        text = table.printable(event.text)
        log.append(Text.assemble((words.clock(event.when), QUIET), "  ", (event.resource, HEAD), "  ", text))
    return log


def _title(scene: Scene, width: int) -> Text:
    if scene.trouble:
        return _spread(
            Text(f" hastd does not answer: {scene.trouble}"), Text("trying again "), width, "bold white on red"
        )
    state = "PAUSED " if scene.paused else ""
    right = Text(f"{state}{words.clock(scene.now)} ")
    return _spread(Text(f" hastctl monitor  {scene.node}"), right, width, "reverse")


def _footer(width: int) -> Text:
    line = Text()
    for key, what in _KEYS:
        line.append(f" {key} ", HEAD).append(f"{what}  ", QUIET)
    return line


def _rule(title: str, facts: str, width: int, ascii_only: bool) -> Text:
    dash = "-" if ascii_only else "─"
    line = Text.assemble((f"{dash * 2} ", QUIET), (title, HEAD), (f"  {facts}" if facts else "", ""), " ")
    return line.append(dash * max(width - cell_len(line.plain), 0), QUIET)


def _beside(left: Iterable[Text], right: Iterable[Text], width: int) -> Iterator[Text]:
    """Two panels; below each other where there is no room."""
    if width < _PANEL + 34:
        yield from (*left, *right)
        return
    for one, other in zip(left, right, strict=True):
        one.append(" " * (_PANEL - cell_len(one.plain)))
        yield one + other


def _spread(left: Text, right: Text, width: int, style: str) -> Text:
    left.truncate(max(width - cell_len(right.plain), 0))
    gap = " " * (width - cell_len(left.plain) - cell_len(right.plain))
    return Text.assemble(left, gap, right, style=style)
