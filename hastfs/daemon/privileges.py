"""What a worker gives up before it talks to anyone: root's identity and capabilities.

Its component is open and locked by then, and all else works by descriptor. As the original's, it becomes the user hast
where there is one; the means are Linux's: credentials(7), capabilities(7) and no_new_privs (prctl(2)).
"""

from __future__ import annotations

import ctypes
import logging
import os
import pwd
from dataclasses import dataclass

from hastfs.errors import SystemFailure

log = logging.getLogger(__name__)

USER = "hast"

# linux/prctl.h
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_SET_BITS = 64  # in a set of capabilities; the kernel knows fewer

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Held:
    """What one thread may do, as /proc/PID/task/TID/status has it. Capabilities are sets of bits."""

    uids: tuple[int, ...]
    """Real, effective, saved, and for file systems; `gids` alike."""
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: bool


def parse(status: str) -> Held:
    """What a status file says (proc(5)). KeyError or ValueError if it is none."""
    fields = dict(line.split(":", 1) for line in status.splitlines())

    def numbers(name: str) -> tuple[int, ...]:
        return tuple(int(word) for word in fields[name].split())

    def bits(name: str) -> int:
        return int(fields[name], 16)

    return Held(
        uids=numbers("Uid"),
        gids=numbers("Gid"),
        groups=numbers("Groups"),
        inheritable=bits("CapInh"),
        permitted=bits("CapPrm"),
        effective=bits("CapEff"),
        bounding=bits("CapBnd"),
        ambient=bits("CapAmb"),
        no_new_privs=numbers("NoNewPrivs") == (1,),
    )


def outlook() -> str:
    """One sentence on what workers started now will be."""
    user = _user()
    if user is None:
        return f"There is no user {USER}: workers stay root, without capabilities."
    return f"Workers run as user {USER} (uid {user.pw_uid}, gid {user.pw_gid}), without capabilities."


def drop() -> None:
    """Becomes the user hast, if there is one, and gives up all capabilities, for good.

    To be called before the process has a second thread. SystemFailure if anything is left that should not be: the
    process must end then.
    """
    user = _user()
    if user is not None and user.pw_uid == 0:
        raise SystemFailure(f"User {USER} has uid 0, which is root: give it one of its own.")
    try:
        expected = _expected(_own(), user)
        _give_up(user)
        found = _own()
        threads = _threads()
    except OSError as error:
        raise SystemFailure(
            f"Unable to drop privileges: {error.strerror}. Start hastd as root with all capabilities, and with /proc."
        ) from error
    if found != expected or threads != 1:
        raise SystemFailure(f"Privileges were not dropped: {found} in {threads} threads, not {expected} in one.")
    log.info("Privileges successfully dropped.")


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _own() -> Held:
    with open("/proc/self/status") as file:
        return parse(file.read())


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _expected(before: Held, user: pwd.struct_passwd | None) -> Held:
    return Held(
        uids=before.uids if user is None else (user.pw_uid,) * 4,
        gids=before.gids if user is None else (user.pw_gid,) * 4,
        groups=(),
        inheritable=0,
        permitted=0,
        effective=0,
        bounding=0,
        ambient=0,
        no_new_privs=True,
    )


def _give_up(user: pwd.struct_passwd | None) -> None:
    """The order matters: each step takes what the next ones need not."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(_SET_BITS):
        if _is_in_bounding_set(capability):
            _prctl(_PR_CAPBSET_DROP, capability)
    os.setgroups([])
    if user is not None:
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _give_up_capabilities()


def _is_in_bounding_set(capability: int) -> bool:
    """False also for a capability that this kernel does not know."""
    return bool(_libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(capability), *_rest(1)) == 1)


def _prctl(option: int, *arguments: int) -> None:
    """OSError if it fails."""
    words = [ctypes.c_ulong(argument) for argument in arguments]
    _check(_libc.prctl(option, *words, *_rest(len(words))))


def _rest(given: int) -> list[ctypes.c_ulong]:
    """prctl(2) wants the arguments that an option does not use to be 0."""
    return [ctypes.c_ulong(0)] * (4 - given)


def _give_up_capabilities() -> None:
    """This thread's: effective, permitted and inheritable (capset(2)). OSError if it fails."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
