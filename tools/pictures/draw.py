#!/usr/bin/env python3
"""Draws docs/pictures/{write,roles,failover}.svg: boxes, arrows and words that can be read on light and dark ground.

usage: tools/pictures/draw.py
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"

# Colours for both: a picture in a page has no say in the page's ground, but knows what the reader prefers.
STYLE = """
  text { font: 14px sans-serif; fill: #1f2328; } .small { font-size: 12px; } .box { fill: #ddf4ff; stroke: #0969da; }
  .tiny { font-size: 9px; }
  .series0 { fill: #0969da; } .series1 { fill: #80b4f0; } .series2 { fill: #1a7f37; } .series3 { fill: #86cf9a; }
  .disk { fill: #dafbe1; stroke: #1a7f37; } .bad { fill: #ffebe9; stroke: #cf222e; } .ground { fill: #ffffff; }
  .line { stroke: #57606a; stroke-width: 1.5; fill: none; } .tip { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .box { fill: #0c2d6b; stroke: #58a6ff; } .disk { fill: #033a16; stroke: #3fb950; }
    .bad { fill: #67060c; stroke: #ff7b72; } .ground { fill: #0d1117; } .line { stroke: #9198a1; }
    .tip { fill: #9198a1; }
  }
"""


class Picture:
    """Shapes in the order in which they are drawn; all numbers are pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img"><title>{escape(title)}</title><style>{STYLE}</style><defs><marker id="tip" markerWidth="9" '
            'markerHeight="8" refX="8" refY="4" orient="auto-start-reverse"><path class="tip" d="M0,0 L9,4 L0,8 z"/>'
            "</marker></defs>"
            f'<rect class="ground" width="{width}" height="{height}"/>'
        )
        self._parts: list[str] = []

    def box(self, x: int, y: int, width: int, height: int, *lines: str, kind: str = "box") -> None:
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        top = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 18 * number, line, anchor="middle", small=number > 0)

    def bar(self, x: int, y: int, width: int, height: int, kind: str) -> None:
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>')

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", small: bool = True, tiny: bool = False
    ) -> None:
        css = ' class="tiny"' if tiny else ' class="small"' if small else ""
        self._parts.append(f'<text{css} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>')

    def arrow(self, *points: tuple[int, int], both: bool = False) -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        start = ' marker-start="url(#tip)"' if both else ""
        self._parts.append(f'<polyline class="line" points="{path}" marker-end="url(#tip)"{start}/>')

    def line(self, x1: int, y1: int, x2: int, y2: int) -> None:
        self._parts.append(f'<line class="line" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')

    def svg(self) -> str:
        return "\n".join((self._head, *self._parts, "</svg>\n"))


def write() -> Picture:
    """As docs/architecture.md has it."""
    picture = Picture(760, 400, "The way of a write")
    picture.text(180, 24, "primary", anchor="middle", small=False)
    picture.text(590, 24, "secondary", anchor="middle", small=False)
    picture.box(60, 40, 240, 36, "application")
    picture.box(60, 106, 240, 50, "kernel", "file system, loop, FUSE")
    picture.box(60, 186, 240, 50, "hastd: NAME (primary)", "marks the extent in the map first")
    picture.box(60, 310, 240, 50, "component", "metadata | map | data", kind="disk")
    picture.box(470, 186, 240, 50, "hastd: NAME (secondary)", "does what the primary asks")
    picture.box(470, 310, 240, 50, "component", "metadata | map | data", kind="disk")
    picture.arrow((180, 76), (180, 105))
    picture.text(190, 96, "1 write")
    picture.arrow((180, 156), (180, 185))
    picture.arrow((180, 236), (180, 309))
    picture.text(190, 268, "2 map, if need be")
    picture.text(190, 286, "3 data, at the same time")
    picture.arrow((300, 202), (469, 202))
    picture.text(385, 195, "3 data", anchor="middle")
    picture.arrow((470, 222), (301, 222))
    picture.text(385, 240, "received (memsync)", anchor="middle")
    picture.text(385, 256, "written", anchor="middle")
    picture.arrow((590, 236), (590, 309))
    picture.text(600, 278, "4 data")
    picture.arrow((60, 211), (30, 211), (30, 58), (59, 58))
    picture.text(36, 178, "5")
    picture.text(
        60,
        386,
        "5: fullsync when both have written; memsync when the other one has received; async when this one has written",
    )
    return picture


def roles() -> Picture:
    picture = Picture(760, 250, "Which role follows which")
    picture.box(300, 20, 160, 50, "init", "out of service")
    picture.box(40, 160, 240, 60, "secondary", "keeps the copy")
    picture.box(480, 160, 240, 60, "primary", "serves the disk")
    picture.arrow((310, 71), (180, 159), both=True)
    picture.text(70, 108, "role secondary, role init")
    picture.arrow((450, 71), (580, 159), both=True)
    picture.text(530, 108, "role primary, role init")
    picture.arrow((281, 178), (479, 178))
    picture.text(380, 170, "role primary: take over", anchor="middle")
    picture.arrow((479, 204), (281, 204))
    picture.text(380, 224, "role secondary: hand over", anchor="middle")
    picture.text(380, 244, "only when nobody uses the disk", anchor="middle")
    return picture


def failover() -> Picture:
    picture = Picture(760, 230, "A failover, in the order of time")
    for y, name in ((40, "alpha"), (120, "beta")):
        picture.text(10, y + 24, name, small=False)
    picture.box(70, 40, 170, 40, "primary")
    picture.box(240, 40, 180, 40, "dead", kind="bad")
    picture.box(420, 40, 170, 40, "secondary", "gets what it missed")
    picture.box(590, 40, 160, 40, "secondary", "complete", kind="disk")
    picture.box(70, 120, 170, 40, "secondary", "complete", kind="disk")
    picture.box(240, 120, 80, 40, "alone")
    picture.box(320, 120, 270, 40, "primary", "remembers what alpha misses")
    picture.box(590, 120, 160, 40, "primary", "complete", kind="disk")
    for x in (240, 320, 420, 590):
        picture.line(x, 162, x, 182)
    picture.text(240, 198, "alpha loses power", anchor="middle")
    picture.text(330, 214, "alpha is surely off: role primary, e2fsck -p, mount", anchor="middle")
    picture.text(440, 198, "alpha is back: role secondary", anchor="middle")
    picture.text(640, 198, "syncdone", anchor="middle")
    return picture


def main() -> None:
    for draw in (write, roles, failover):
        (PICTURES / f"{draw.__name__}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
