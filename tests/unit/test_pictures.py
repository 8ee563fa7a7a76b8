"""docs/pictures: what a script draws is what is there, so the plots show the figures of docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("script", ["draw.py", "plots.py"])
def test_the_pictures_are_those_that_their_script_draws(script: str, tmp_path: Path) -> None:
    (tmp_path / "docs/pictures").mkdir(parents=True)
    (tmp_path / "tools/pictures").mkdir(parents=True)
    for source in (TOP / "tools/pictures").glob("*.py"):
        (tmp_path / "tools/pictures" / source.name).write_text(source.read_text())
    (tmp_path / "docs/performance.md").write_text((TOP / "docs/performance.md").read_text())
    subprocess.run([sys.executable, tmp_path / "tools/pictures" / script], check=True)
    drawn = list((tmp_path / "docs/pictures").iterdir())
    assert drawn
    for picture in drawn:
        assert picture.read_text() == (TOP / "docs/pictures" / picture.name).read_text(), f"run tools/pictures/{script}"
