"""hastctl events: the state, and then whatever is new, a line each."""

from __future__ import annotations

import sys

from hastfs.cli import output, plain
from hastfs.cli.listening import listen
from hastfs.cli.options import Options
from hastfs.config.schema import Config
from hastfs.errors import DataError
from hastfs.news import Picture
from hastfs.protocol.control import ALL


def run(options: Options, config: Config) -> int:
    """Returns when hastd ends in order, with `--now` when all of the state was told."""
    picture = Picture(() if options.names == (ALL,) else options.names)
    for news in listen(config.control, options.names, reader=_reader()):
        output.say(plain.encode(plain.news(news)) if options.json else news.line())
        if not picture.whole:
            picture.take(news)
            _complain(picture)
        if options.now and picture.whole:
            break
    return 0


def _reader() -> int | None:
    """Of what we write; None if there is no descriptor."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _complain(picture: Picture) -> None:
    """DataError for a name that hast.conf does not have when the state was told."""
    if unknown := picture.unknown():
        raise DataError(f"Unknown resource {unknown[0]}.")
