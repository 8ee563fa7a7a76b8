"""hastctl wait: returns when it is so."""

from __future__ import annotations

from hastfs.cli.listening import wait_for
from hastfs.cli.options import Options
from hastfs.config.schema import Config


def run(options: Options, config: Config) -> int:
    """Returns when it is so of all resources at once. NotYet (75) after the timeout; without one there is no bound."""
    assert options.goal is not None
    wait_for(options.goal, config.control, options.names, options.timeout)
    return 0
