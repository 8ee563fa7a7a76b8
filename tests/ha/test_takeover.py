"""Who decides, moves the disk when its machine dies under load, and gets the machine back as a secondary.

Each on two machines of its own, all at the same time: they mostly wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.ha.conftest import two_machines
from tests.ha.site import DIRECTORY, EXAMPLES, LONGEST, MACHINES, Site, on_both
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

ADDRESS = "192.0.2.100"
HAS_ADDRESS = f"ip -4 -o addr show dev eth0 | grep -qF ' {ADDRESS}/'"
IS_MOUNTED = f"mountpoint -q {DIRECTORY}"
HASTD = "[ -S /run/hastctl ] && hastctl status >/dev/null || hastd"
HAS_BOTH = f"{HAS_ADDRESS} && {IS_MOUNTED}"


@dataclass(frozen=True, slots=True)
class Software:
    """Who decides which of two machines serves the disk."""

    install: Callable[[str], object]
    """On a machine that is on."""
    start: Callable[[str], object]
    """On a machine that was just switched on, or that `install` was done on."""
    serves: str
    """Shell: whether this machine is the one."""
    explain: str
    """Shell: shows what a failure may come from."""


def keepalived(site: Site) -> Software:
    def install(name: str) -> None:
        folder = EXAMPLES / "keepalived"
        site.shell(name, f"cd {folder}; cp hast-fit hast-role keepalived.conf /etc/keepalived/")

    def start(name: str) -> None:
        command = "keepalived --vrrp --dont-fork --log-console --log-detail"
        site.shell(name, f"{HASTD}; {command} </dev/null >/var/log/keepalived 2>&1 &")

    return Software(install, start, HAS_BOTH, "hastctl status shared; cat /var/log/keepalived")


def ucarp(site: Site) -> Software:
    def install(name: str) -> None:
        site.shell(name, f"mkdir -p /etc/ucarp; cp {EXAMPLES}/ucarp/* /etc/ucarp/")

    def start(name: str) -> None:
        number = MACHINES.index(name)
        site.shell(
            name,
            f"{HASTD}; ucarp --interface=eth0 --srcip=192.0.2.{number + 1} --vhid=57 --pass=sesame --addr={ADDRESS}"
            f" --advskew={number * 100} --shutdown --daemonize"
            " --upscript=/etc/ucarp/vip-up --downscript=/etc/ucarp/vip-down --xparam=shared",
        )

    return Software(install, start, HAS_BOTH, "ip addr; hastctl status shared; ps ax")


def pacemaker(site: Site) -> Software:
    configuration = site.root / "cib.xml"
    configuration.write_text(_information())

    def install(name: str) -> None:
        site.shell(
            name,
            "hastctl stop;"  # here the agent looks after hastd
            f"cd {EXAMPLES}/ocf; install -D -m 755 hast /usr/lib/ocf/resource.d/hastfs/hast;"
            "cp corosync.conf /etc/corosync/;"
            f"install -o hacluster -g haclient -m 600 {configuration} /var/lib/pacemaker/cib/cib.xml",
        )

    def start(name: str) -> None:
        site.shell(name, "corosync; PCMK_logfile=/var/log/pacemaker pacemakerd </dev/null >/var/log/pacemakerd 2>&1 &")

    explain = "crm_mon -1 -A -f; hastctl status shared; grep -E 'warn|error' /var/log/pacemaker | tail -20"
    return Software(install, start, IS_MOUNTED, explain)


def _information() -> str:
    """The whole of examples/ocf/cib.xml, without fencing, for nobody is alive here who could do it."""
    configuration = (EXAMPLES / "ocf" / "cib.xml").read_text().partition("-->")[2]
    fencing = '<nvpair id="options-stonith-enabled" name="stonith-enabled" value='
    quick = '<nvpair id="options-dc-deadtime" name="dc-deadtime" value="2s"/>'
    without = configuration.replace(f'{fencing}"true"/>', f'{fencing}"false"/>{quick}')
    assert without != configuration
    return (
        '<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="1" num_updates="0" admin_epoch="0">'
        f"{without}<status/></cib>"
    ).replace("<resources>", "<nodes/><resources>")


SOFTWARE = (keepalived, ucarp, pacemaker)


def tell(site: Site, software: Software) -> None:
    """One machine dies while it writes; the other one gets the disk with every record, then the first as secondary."""
    site.begin()
    on_both(software.install)
    on_both(software.start)
    until_one_serves(site, software, MACHINES)
    dies, lives = MACHINES if site.is_so(MACHINES[0], software.serves) else MACHINES[::-1]
    until_in_sync(site, software, dies)
    safe = site.write(dies)
    site.switch_off(dies)
    until_one_serves(site, software, (lives,))
    # What was on its way may be there or not.
    assert site.records(lives)[: safe()] == [f"record {number}" for number in range(1, safe() + 1)]
    site.switch_on(dies)
    software.start(dies)
    until_in_sync(site, software, lives)
    assert site.is_so(lives, software.serves)
    assert not site.is_so(dies, software.serves)


def until_one_serves(site: Site, software: Software, names: tuple[str, ...]) -> None:
    def one_serves() -> bool:
        return any(site.is_so(name, software.serves) for name in names)

    wait_for(one_serves, "the disk is served", timeout=LONGEST, otherwise=lambda: site.explain(software.explain))


def until_in_sync(site: Site, software: Software, primary: str) -> None:
    def in_sync() -> bool:
        look = site.run(primary, "hastctl", "status", "--json", "shared", check=False).stdout
        resource = json.loads(look)["resources"][0]
        return (resource["connection"], resource["peer_disk"]) == ("connected", "up-to-date")

    wait_for(in_sync, "the nodes are in sync", timeout=LONGEST, otherwise=lambda: site.explain(software.explain))


@pytest.fixture(scope="module")
def stories() -> Iterator[dict[str, Future[None]]]:
    """All of them, begun."""

    def story(software: Callable[[Site], Software]) -> None:
        with two_machines() as site:
            tell(site, software(site))

    with ThreadPoolExecutor() as pool:
        yield {software.__name__: pool.submit(story, software) for software in SOFTWARE}


@pytest.mark.parametrize("software", [software.__name__ for software in SOFTWARE])
def test_the_disk_of_a_machine_that_dies_is_taken_over_and_no_record_is_lost(
    stories: dict[str, Future[None]], software: str
) -> None:
    stories[software].result()
