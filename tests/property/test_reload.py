"""Whatever two configurations are: the plan leads from the one to the other, and stops nothing without need."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hastfs.address import Address
from hastfs.config.schema import Config, ResourceConfig
from hastfs.daemon.reload import compare
from hastfs.model import Checksum, Compression, Replication

addresses = st.builds(
    Address, st.sampled_from(["a", "::1"]), st.integers(0, 65535), st.sampled_from([None, 4, 6]), st.text(max_size=3)
)
resources = st.builds(
    ResourceConfig,
    name=st.sampled_from("abc"),
    provider=st.sampled_from("xy"),
    local=st.sampled_from(["/x", "/y"]),
    remote=st.none() | addresses,
    source=st.none() | addresses,
    replication=st.sampled_from(Replication),
    checksum=st.sampled_from(Checksum),
    compression=st.sampled_from(Compression),
    timeout=st.integers(1, 3),
    exec=st.sampled_from([None, "/hook"]),
    metaflush=st.booleans(),
    device=st.booleans(),
)
configs = st.builds(
    Config,
    path=st.just("/etc/hast.conf"),
    control=st.sampled_from(["/c", "/d"]),
    pidfile=st.sampled_from(["/p", "/q"]),
    listen=st.lists(addresses, max_size=1).map(tuple),
    mountdir=st.sampled_from(["/run/hast", "/mnt"]),
    resources=st.lists(resources, unique_by=lambda resource: resource.name).map(
        lambda found: {resource.name: resource for resource in found}
    ),
)
"""Few values, so that two of them often agree in something."""


@given(configs, configs)
def test_the_plan_leads_from_the_old_to_the_new(old: Config, new: Config) -> None:
    plan = compare(old, new)
    reached = {name: resource for name, resource in old.resources.items() if name not in plan.removed}
    reached |= {name: new.resources[name] for name in plan.added + plan.restarted + plan.applied}
    assert reached == new.resources


@given(configs, configs)
def test_every_resource_is_in_one_place_at_most(old: Config, new: Config) -> None:
    plan = compare(old, new)
    every = plan.removed + plan.added + plan.restarted + plan.applied
    assert len(set(every)) == len(every)
    assert set(plan.removed) == old.resources.keys() - new.resources.keys()
    assert set(plan.added) == new.resources.keys() - old.resources.keys()


@given(configs)
def test_the_same_again_is_nothing_to_do(config: Config) -> None:
    plan = compare(config, replace(config, path="/other", control="/x", pidfile="/x", listen=()))
    assert plan == compare(config, config)
    assert not plan.removed + plan.added + plan.restarted + plan.applied


@given(configs, configs)
def test_only_another_component_image_or_device_restarts_a_resource(old: Config, new: Config) -> None:
    plan = compare(old, new)
    for name in old.resources.keys() & new.resources.keys():
        before, after = old.resources[name], new.resources[name]
        same_place = (
            replace(after, provider=before.provider, local=before.local, device=before.device) == after
            and old.mountdir == new.mountdir
        )
        assert (name in plan.restarted) == (not same_place)
        assert (name in plan.applied) == (same_place and before != after)


@given(resources)
def test_a_resource_survives_the_way_to_its_worker(resource: ResourceConfig) -> None:
    assert ResourceConfig.from_plain(json.loads(json.dumps(resource.as_plain()))) == resource
