"""The OCF resource agent by hand, and what ocf-tester says of it; in a cluster it is in test_takeover."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ha.conftest import two_machines
from tests.ha.site import EXAMPLES, Site, on_both

pytestmark = pytest.mark.kernel

AGENT = "/usr/lib/ocf/resource.d/hastfs/hast"
SUCCESS, ERROR, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING, PROMOTED = 0, 1, 3, 5, 6, 7, 8


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """With the agent installed, and role init."""
    with two_machines() as made:
        made.begin()
        on_both(lambda name: made.shell(name, f"install -D -m 755 {EXAMPLES}/ocf/hast {AGENT}"))
        yield made


def agent(site: Site, name: str, action: str, **parameters: str) -> int:
    """What the agent answers outside of a cluster."""
    known = {"resource": "shared", "hastctl": str(site.programs / "hastctl"), **parameters}
    environment = [f"OCF_RESKEY_{key}={value}" for key, value in known.items()]
    words = ("env", "OCF_ROOT=/usr/lib/ocf", "OCF_RESOURCE_INSTANCE=shared", *environment, AGENT, action)
    return site.run(name, *words, check=False).returncode


def test_each_action_answers_as_ocf_says(site: Site) -> None:
    def ask(action: str, **parameters: str) -> int:
        return agent(site, "alpha", action, **parameters)

    assert ask("validate-all") == SUCCESS
    assert ask("validate-all", resource="other") == INSTALLED
    assert ask("start", hastctl="/nowhere") == INSTALLED
    assert ask("monitor", resource="") == CONFIGURED
    assert ask("jump") == UNIMPLEMENTED
    assert ask("stop") == SUCCESS
    assert ask("monitor") == NOT_RUNNING
    assert ask("promote") == ERROR
    assert ask("start") == SUCCESS
    assert ask("monitor") == SUCCESS
    assert ask("promote") == SUCCESS
    assert ask("monitor") == PROMOTED
    assert ask("demote") == SUCCESS
    assert ask("stop") == SUCCESS
    assert ask("stop") == SUCCESS
    assert ask("monitor", resource="other") == NOT_RUNNING, "hastd says that there is none"
    assert ask("stop", resource="other") == SUCCESS, "a mistake in the name is no reason to shoot the node"
    assert ask("start", resource="other") == INSTALLED


@pytest.mark.parametrize(
    ("worker", "code", "said", "answer"),
    [
        ("primary", 71, "No answer from hastd via /var/run/hastctl within 10 s.", ERROR),
        ("", 71, "No answer from hastd via /var/run/hastctl within 10 s.", ERROR),
        ("primary", 71, "Unable to connect to hastd via /var/run/hastctl: Connection refused.", ERROR),
        ("", 71, "Unable to connect to hastd via /var/run/hastctl: Connection refused.", NOT_RUNNING),
        ("primary", 78, "/etc/hast.conf:3: near }: expected a word", PROMOTED),
        ("secondary", 78, "/etc/hast.conf:3: near }: expected a word", SUCCESS),
        ("", 78, "/etc/hast.conf:3: near }: expected a word", ERROR),
    ],
)
def test_only_what_is_known_to_be_stopped_is_called_so(
    site: Site, worker: str, code: int, said: str, answer: int
) -> None:
    """The other node becomes primary then. hastctl and the worker are a script and a process with the right name."""
    fake = f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n"
    site.shell("beta", f"cat >/tmp/hastctl <<'END'\n{fake}END\nchmod 755 /tmp/hastctl")
    title = f"hastd: sha.red[1 ({worker})"
    if worker:
        site.shell("beta", f"bash -c 'exec -a \"{title}\" sleep 60' >/dev/null 2>&1 & echo $! >/tmp/worker")
        site.shell("beta", "timeout 10 sh -c 'until pgrep -f \"^hastd: sha[.]red\" >/dev/null; do sleep 0.05; done'")
    try:
        assert agent(site, "beta", "monitor", hastctl="/tmp/hastctl", resource="sha.red[1") == answer
    finally:
        if worker:
            site.shell("beta", "kill $(cat /tmp/worker)")


def test_data_that_is_not_up_to_date_is_not_promoted(site: Site) -> None:
    """hastctl is a script that says what it wants, as of a node in the middle of a resync."""
    said = '{"role": "secondary", "connection": "connecting", "disk": "inconsistent", "peer_disk": "up-to-date"}'
    fake = f"#!/bin/sh\n[ $1 = status ] && echo '{said}'\n"
    site.shell("beta", f"cat >/tmp/hastctl <<'END'\n{fake}END\nchmod 755 /tmp/hastctl")
    assert agent(site, "beta", "monitor", hastctl="/tmp/hastctl") == SUCCESS
    assert agent(site, "beta", "promote", hastctl="/tmp/hastctl") == ERROR


def test_ocf_tester_has_no_complaint(site: Site) -> None:
    parameters = ("-o", "resource=shared", "-o", f"hastctl={site.programs}/hastctl")
    site.run("beta", "hastctl", "role", "init", "shared")
    said = site.run("beta", "ocf-tester", "-n", "shared", *parameters, AGENT, check=False).stdout
    assert "passed all tests" in said, said
