"""How errors are worded."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from hastfs.errors import SystemFailure, plain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
        (
            OSError(errno.ECONNREFUSED, "Error connecting to ('192.0.2.2', 8457): Connection refused"),
            "Connection refused",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("hastb has no address"), "hastb has no address"),
        (SystemFailure("No answer."), "No answer."),
        (trio.TooSlowError(), "TooSlowError"),
    ],
)
def test_the_system_s_errors_are_told_in_its_own_words(error: Exception, words: str) -> None:
    assert plain(error) == words
