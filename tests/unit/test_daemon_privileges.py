"""What a worker is to give up, and that it does not go on with more than that. Nothing is really dropped here."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import pwd
from collections.abc import Callable

import pytest

from hastfs.daemon import privileges
from hastfs.daemon.privileges import Held
from hastfs.errors import SystemFailure

STATUS = """Name:\thastd: disk (pri
Umask:\t0022
State:\tS (sleeping)
Tgid:\t4711
Uid:\t994\t995\t996\t997
Gid:\t984\t985\t986\t987
FDSize:\t64
Groups:\t4 24{blank}
CapInh:\t0000000000000000
CapPrm:\t0000000000000400
CapEff:\t0000000000000401
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000800
NoNewPrivs:\t1
Seccomp:\t0
""".format(blank=" ")

USER = pwd.struct_passwd(("hast", "x", 994, 984, "", "/nonexistent", "/usr/sbin/nologin"))
DROPPED = Held((994,) * 4, (984,) * 4, (), 0, 0, 0, 0, 0, True)


def hold(monkeypatch: pytest.MonkeyPatch, afterwards: Held, user: pwd.struct_passwd | None = USER) -> None:
    """Dropping leaves what `afterwards` says; the way there is not gone."""
    monkeypatch.setattr(privileges, "_user", lambda: user)
    monkeypatch.setattr(privileges, "_give_up", lambda *_: None)
    monkeypatch.setattr(privileges, "_own", lambda: afterwards)
    monkeypatch.setattr(privileges, "_threads", lambda: 1)  # pytest may have more, of trio's


def test_a_status_file_is_understood() -> None:
    assert privileges.parse(STATUS) == Held(
        uids=(994, 995, 996, 997),
        gids=(984, 985, 986, 987),
        groups=(4, 24),
        inheritable=0,
        permitted=0x400,
        effective=0x401,
        bounding=0x1FFFFFFFFFF,
        ambient=0x800,
        no_new_privs=True,
    )
    assert not privileges.parse(STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")).no_new_privs
    assert privileges.parse(STATUS.replace("4 24 ", " ")).groups == ()


def test_the_outlook_names_the_user_or_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_user", lambda: USER)
    assert privileges.outlook() == "Workers run as user hast (uid 994, gid 984), without capabilities."
    monkeypatch.setattr(privileges, "_user", lambda: None)
    assert privileges.outlook() == "There is no user hast: workers stay root, without capabilities."


def test_what_is_left_is_compared_with_what_was_intended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hold(monkeypatch, DROPPED)
    with caplog.at_level(logging.INFO):
        privileges.drop()
    assert caplog.messages == ["Privileges successfully dropped."]


@pytest.mark.parametrize(
    "left",
    [
        {"uids": (994, 994, 994, 0)},
        {"gids": (984, 0, 984, 984)},
        {"groups": (0,)},
        {"inheritable": 1},
        {"permitted": 0x400},
        {"effective": 0x400},
        {"bounding": 1 << 40},
        {"ambient": 1},
        {"no_new_privs": False},
    ],
    ids=lambda left: next(iter(left)),
)
def test_anything_that_is_left_is_an_error(monkeypatch: pytest.MonkeyPatch, left: dict[str, object]) -> None:
    hold(monkeypatch, dataclasses.replace(DROPPED, **left))  # type: ignore[arg-type]
    with pytest.raises(SystemFailure, match="were not dropped"):
        privileges.drop()


def test_a_second_thread_would_keep_its_privileges_and_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, DROPPED)
    monkeypatch.setattr(privileges, "_threads", lambda: 2)
    with pytest.raises(SystemFailure, match="in 2 threads"):
        privileges.drop()


def test_without_the_user_the_ids_stay_and_all_else_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, dataclasses.replace(DROPPED, uids=(0,) * 4, gids=(0,) * 4), user=None)
    privileges.drop()


def test_a_user_that_is_root_by_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.struct_passwd(("hast", "x", 0, 984, "", "/nonexistent", "/usr/sbin/nologin"))
    hold(monkeypatch, dataclasses.replace(DROPPED, uids=(0,) * 4), user=root)
    with pytest.raises(SystemFailure, match="User hast has uid 0"):
        privileges.drop()


def refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize(
    "step", [(os, "setgroups"), (os, "setresgid"), (os, "setresuid"), (privileges, "_give_up_capabilities")]
)
def test_a_step_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]) -> None:
    """The steps before it do nothing here."""

    def nothing(*_: object) -> None:
        pass

    steps: list[tuple[object, str]] = [
        *((os, name) for name in ("setgroups", "setresgid", "setresuid")),
        *((privileges, name) for name in ("_prctl", "_give_up_capabilities", "_is_in_bounding_set")),
    ]
    for where, name in steps:
        how: Callable[..., None] = refuse if (where, name) == step else nothing
        monkeypatch.setattr(where, name, how)
    monkeypatch.setattr(privileges, "_user", lambda: USER)
    with pytest.raises(
        SystemFailure, match=r"^Unable to drop privileges: Operation not permitted\. Start hastd as root"
    ):
        privileges.drop()
