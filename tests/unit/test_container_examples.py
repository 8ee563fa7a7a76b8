"""examples/containers for engines that are not run here: their form, and that their parts fit together."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def documents(name: str) -> dict[str, Any]:
    """Those of a file, by kind."""
    return {one["kind"]: one for one in yaml.safe_load_all((EXAMPLES / "containers/kubernetes" / name).read_text())}


def test_the_claim_gets_the_volume_that_both_nodes_have() -> None:
    found = documents("local-volume.yaml")
    volume, claim = found["PersistentVolume"], found["PersistentVolumeClaim"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert {one["spec"]["storageClassName"] for one in (volume, claim)} == {found["StorageClass"]["metadata"]["name"]}
    assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["alpha", "beta"]


def test_the_pods_go_where_the_role_is_and_mount_what_they_declare() -> None:
    pods = [documents("local-volume.yaml")["StatefulSet"]["spec"]["template"], documents("host-path.yaml")["Pod"]]
    for pod in pods:
        spec = pod["spec"]
        assert spec["nodeSelector"] == {"hastfs/shared": "primary"}
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert pods[1]["spec"]["volumes"][0]["hostPath"]["type"] == "Directory"


def test_the_compose_file_does_not_make_the_folder_and_restarts_nothing() -> None:
    compose = yaml.safe_load((EXAMPLES / "containers/docker/compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert "restart" not in service
    (volume,) = service["volumes"]
    assert (volume["source"], volume["bind"]) == ("/srv/shared", {"create_host_path": False})


def test_the_quadlet_is_bound_to_the_unit_that_mounts() -> None:
    quadlet = ConfigParser(strict=False, interpolation=None)
    quadlet.read(EXAMPLES / "containers/podman/database.container")
    assert quadlet["Unit"]["BindsTo"] == quadlet["Unit"]["After"] == quadlet["Install"]["WantedBy"]
    template = quadlet["Unit"]["BindsTo"].replace("@shared", "@")
    assert (EXAMPLES / "systemd" / template).exists()
