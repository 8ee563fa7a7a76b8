"""A real Prometheus scrapes a real pair: the dashboard's panels have something to show, and an alert fires."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import machine
from tests.kernel.conftest import MakePair
from tests.kernel.node import MIB, PROJECT, Node, Options
from tests.kernel.pair import Pair
from tests.kernel.waiting import wait_for

pytestmark = pytest.mark.kernel

EXAMPLES = PROJECT / "examples"
PROMETHEUS = EXAMPLES / "prometheus"


def with_metrics(node: Node) -> int:
    """The port, from the next start or reload on."""
    port = machine.free_port()
    node.config.write_text(f"metrics tcp4://127.0.0.1:{port}\n{node.config.read_text()}")
    return port


def scraped(port: int) -> str:
    """Empty if there is nobody."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


class Prometheus:
    """One that scrapes every second."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"
        self._began = time.time()

    def ask(self, path: str, **values: str) -> Any:
        """None while it does not answer. AssertionError for a question that makes no sense to it."""
        try:
            with urllib.request.urlopen(f"{self._api}/{path}?{urllib.parse.urlencode(values)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 400:
                raise AssertionError(f"{values}: {error.read().decode()}") from error
            return None
        except OSError:
            return None

    def value(self, expression: str) -> float | None:
        found = self.ask("query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def has_ever(self, expression: str) -> bool:
        """Whether it had any value since the beginning."""
        found = self.ask("query_range", query=expression, start=str(self._began), end=str(time.time()), step="1")
        return bool(found and found["result"])

    def firing(self) -> set[str]:
        found = self.ask("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in found["alerts"] if alert["state"] == "firing"}


@contextmanager
def prometheus(root: Path, ports: dict[str, int]) -> Iterator[Prometheus]:
    """With the examples' configuration and rules, but for the targets and the times: those are of minutes there."""
    config = (PROMETHEUS / "prometheus.yml").read_text().replace("15s", "1s")
    for name, port in ports.items():
        config = config.replace(f"{name}:8458", f"127.0.0.1:{port}")
    (root / "prometheus.yml").write_text(config)
    rules = re.sub(r"for: \d+[sm]", "for: 1s", (PROMETHEUS / "hast.rules.yml").read_text())
    (root / "hast.rules.yml").write_text(rules)
    port = machine.free_port()
    with (root / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/tsdb"),
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=root,
        )
    try:
        asked = Prometheus(port)
        wait_for(
            lambda: asked.value("vector(1)") == 1, "Prometheus answers", otherwise=(root / "prometheus.log").read_text
        )
        yield asked
    finally:
        process.kill()
        process.wait()


def expressions() -> list[str]:
    """Of all panels of the dashboard, for all nodes and resources."""
    dashboard = json.loads((EXAMPLES / "grafana/hastfs.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    values = {"$instance": ".*", "$resource": ".*", "$__rate_interval": "5s"}
    for name, value in values.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def use(pair: Pair, offset: int, length: int) -> None:
    """Writes, flushes and reads a part of a's disk."""
    with pair.a.image.open("r+b", buffering=0) as image:
        for at in range(offset, offset + length, MIB):
            os.pwrite(image.fileno(), os.urandom(MIB), at)
        os.fsync(image.fileno())
        assert len(os.pread(image.fileno(), 4096, offset)) == 4096


def test_every_panel_of_the_dashboard_has_something_to_show_and_an_alert_fires(
    make_pair: MakePair, scratch: Path
) -> None:
    pair = make_pair(Options(timeout=2))
    ports = {"alpha": with_metrics(pair.a), "beta": with_metrics(pair.b)}
    with prometheus(scratch, ports) as asked:
        pair.start()
        pair.connect()
        use(pair, 0, 8 * MIB)
        wait_for(lambda: asked.value("sum(hast_up)") == 2, "both nodes are scraped", interval=0.3)
        assert "HastDegraded" not in asked.firing()
        use(pair, 8 * MIB, 8 * MIB)
        pair.cut()
        pair.a.until_status("degraded")
        use(pair, 0, 16 * MIB)
        wait_for(lambda: "HastDegraded" in asked.firing(), "the alert fires", interval=0.3)
        assert (asked.value("max(hast_behind_bytes)") or 0) >= 16 * MIB
        pair.to_b.rate = 6 * MIB
        pair.heal()
        wait_for(lambda: (asked.value("hast_sync_rate_bytes_per_second") or 0) > 0, "a resync is seen", interval=0.3)
        pair.to_b.rate = None
        wait_for(lambda: asked.value("max(hast_behind_bytes)") == 0, "all is copied", interval=0.3)
        wait_for(lambda: "HastDegraded" not in asked.firing(), "the alert is over", interval=0.3)
        empty = [expression for expression in expressions() if not asked.has_ever(expression)]
        assert not empty, "nothing to be seen there"


def test_metrics_come_and_go_with_a_reload_and_tell_of_a_worker_that_hangs(make_pair: MakePair) -> None:
    pair = make_pair()
    pair.start()
    pair.connect()
    before = pair.a.config.read_text()
    port = with_metrics(pair.a)
    assert scraped(port) == ""
    pair.a.hastctl("reload")
    assert 'hast_up{resource="shared"} 1.0' in scraped(port)
    worker = int(pair.a.fields()["workerpid"])
    os.kill(worker, signal.SIGSTOP)
    try:
        began = time.monotonic()
        text = scraped(port)
        assert time.monotonic() - began < 8
    finally:
        os.kill(worker, signal.SIGCONT)
    assert 'hast_up{resource="shared"} 0.0' in text
    assert 'hast_role{resource="shared",state="primary"} 1.0' in text
    assert "hast_behind_bytes{" not in text
    pair.a.config.write_text(before)
    pair.a.hastctl("reload")
    wait_for(lambda: scraped(port) == "", "nobody is there any more", interval=0.2)
    assert pair.a.status().status == "complete"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "hast.rules.yml"),
        ("test", "rules", "hast.rules.test.yml"),
    ],
)
def test_promtool_likes_the_examples(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "it comes with Debian's prometheus"
    machine.run(promtool, *arguments, cwd=PROMETHEUS)


def test_every_alert_is_tested_and_documented() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (PROMETHEUS / "hast.rules.yml").read_text()))
    assert alerts == set(re.findall(r"alertname=\"(\w+)\", severity", (PROMETHEUS / "hast.rules.test.yml").read_text()))
    page = (PROJECT / "docs/metrics.md").read_text()
    assert alerts == set(re.findall(r"^\| `(Hast\w+)` \|", page, re.MULTILINE))
