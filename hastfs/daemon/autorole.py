"""`autorole` of hast.conf: a resource gets the role again that it had when hastd ended.

There must never be two primaries, whoever was primary when. So a node that was primary becomes it again only if the
other node answers, and is not; or if the fence program says that it cannot be. If the other node is primary, it took
over: this one becomes its secondary, and what each of them has is compared when they connect, as always.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import trio

from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon import rolememory
from hastfs.daemon.logs import ResourceLog
from hastfs.daemon.managed import ManagedResource
from hastfs.errors import HastError, plain
from hastfs.model import PROTOCOL_VERSION, Role

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts to be primary again: doubled each time."""

_ANSWERS_WITHIN = 5.0  # Seconds.


class Other(enum.Enum):
    """What the other node is, as far as this one can know; the values end a sentence."""

    NONE = "there is none"
    READY = "it is secondary"
    PRIMARY = "it is primary"
    REFUSES = "it is not secondary"
    AWAY = "it does not answer"


LookAt = Callable[[ResourceConfig], Awaitable[tuple[Other, str]]]
"""What the other node is, and what it says."""


async def look_at_other(config: ResourceConfig) -> tuple[Other, str]:
    """Asks it as a primary would: the first half of a handshake, after which nothing has happened yet."""
    from hastfs.protocol.frame import FrameReader, for_version  # noqa: PLC0415 (the engines' modules: nobody else needs them here)
    from hastfs.protocol.handshake import Hello, Refusal, Welcome  # noqa: PLC0415
    from hastfs.resource.connecting import dialer, receive_frame, send_frame  # noqa: PLC0415

    dial = dialer(config)
    if dial is None:
        return Other.NONE, ""
    try:
        with trio.fail_after(_ANSWERS_WITHIN):
            channel = await dial()
            try:
                await send_frame(channel, for_version(Hello(config.name, PROTOCOL_VERSION).encode(), 1))
                answer = Welcome.decode(await receive_frame(channel, FrameReader(4096, 0)))
            finally:
                channel.close()
    except trio.TooSlowError:
        return Other.AWAY, "no answer"
    except (HastError, OSError) as error:
        return Other.AWAY, plain(error)
    if isinstance(answer, Refusal):
        return (Other.PRIMARY if answer.wait else Other.REFUSES), answer.errmsg
    return Other.READY, ""


class AutoRole:
    """For all resources of this hastd."""

    def __init__(
        self, resources: Mapping[str, ManagedResource], config: Callable[[], Config], look_at: LookAt = look_at_other
    ) -> None:
        self._resources = resources
        self._config = config
        self._look_at = look_at
        self._decided: set[str] = set()  # resources whose role somebody has set since the start
        self._saving = trio.Lock()

    def decided(self, names: Iterable[str]) -> None:
        """Somebody says which role these are to have: what they had before does not matter any more."""
        self._decided.update(names)

    async def remember(self) -> None:
        """The roles have changed, or the configuration: writes down what there is to be remembered.

        A resource with the role init is remembered so only if somebody wanted it, not if it has lost another role.
        """
        async with self._saving:
            try:
                await self._remember()
            except HastError as error:
                log.error("%s At the next start of hastd they are not the roles of now.", error)

    async def _remember(self) -> None:
        statedir = self._config().statedir
        wanted = {name: resource for name, resource in self._resources.items() if resource.config.autorole}
        if not wanted:
            return
        try:
            before = await trio.to_thread.run_sync(rolememory.load, statedir)
        except HastError as error:
            log.error("%s", error)
            before = {}
        roles = {name: resource.wanted or before.get(name, Role.INIT) for name, resource in wanted.items()}
        if roles != before and (roles or before):
            await trio.to_thread.run_sync(rolememory.save, statedir, roles)

    async def run(self) -> None:
        """Gives the roles; returns when each has the one it had, or another that somebody set."""
        wanted = [resource for resource in self._resources.values() if resource.config.autorole]
        if not wanted:
            return
        try:
            roles = await trio.to_thread.run_sync(rolememory.load, self._config().statedir)
        except HastError as error:
            log.error("%s", error)
            return
        async with trio.open_nursery() as nursery:
            for resource in wanted:
                role = roles.get(resource.config.name, Role.INIT)
                if role is not Role.INIT and resource.role is Role.INIT:
                    nursery.start_soon(self._restore, resource, role)

    async def _restore(self, resource: ManagedResource, role: Role) -> None:
        said = ResourceLog(log, resource.config.name, lambda: resource.role)
        pause, complaint = FIRST_PAUSE, ""
        while not self._over(resource):
            why_not = await self._try(resource, role)
            if why_not and why_not != complaint:
                complaint = why_not
                said.warning("It was %s before: %s", role.word, why_not)
            elif not why_not:
                break
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _over(self, resource: ManagedResource) -> bool:
        """Somebody has decided otherwise, or there is no such resource any more."""
        name = resource.config.name
        return name in self._decided or self._resources.get(name) is not resource or resource.role is not Role.INIT

    async def _try(self, resource: ManagedResource, role: Role) -> str:
        """Why it does not have the role yet, in a sentence; empty if it has, or its secondary role instead."""
        config = resource.config
        if role is Role.PRIMARY:
            other, words = await self._look_at(config)
            if other is Other.PRIMARY:
                log.warning("Resource %s was primary before. The other node is it now: secondary.", config.name)
                role = Role.SECONDARY
            elif other in (Other.AWAY, Other.REFUSES) and not config.fence:
                detail = f" ({words.rstrip('.')})" if words else ""
                return (
                    f"it waits for the other node, because {other.value}{detail}. To be primary without it: "
                    f"hastctl role primary {config.name}"
                )
        try:
            await resource.set_role(role, force=False, unless=partial(self._over, resource))
        except HastError as error:
            return str(error)
        await self.remember()
        return ""
