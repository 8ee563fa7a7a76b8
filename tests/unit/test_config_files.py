import os
from pathlib import Path

import pytest

from hastfs.config.files import load, node_names
from hastfs.errors import ConfigError, ConfigMissing

MACHINE = "0123456789abcdef0123456789abcdef"


def test_a_file_is_read_for_the_machine_it_is_on(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_text(f"resource r {{ local /x on {os.uname().nodename} {{ remote none }} }}")
    config = load(str(path))
    assert config.path == str(path)
    assert list(config.resources) == ["r"]


def test_a_file_for_other_machines_is_refused_with_the_names_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_text("resource r { local /x on some-other-machine { remote none } }")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == (
        f"{path}:1: No resource r configuration for this node (acceptable node names: {', '.join(node_names())})."
    )


def test_a_missing_file_is_an_error_of_its_own() -> None:
    with pytest.raises(ConfigMissing) as caught:
        load("/nonexistent.conf")
    assert str(caught.value) == "Unable to open configuration file /nonexistent.conf: No such file or directory."
    assert caught.value.exit_code == 72


def test_a_directory_cannot_be_opened_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissing, match=r"Unable to open configuration file .*: Is a directory\."):
        load(str(tmp_path))


def test_a_syntax_error_names_the_file_and_ends_with_status_78(tmp_path: Path) -> None:
    path = tmp_path / "bad.conf"
    path.write_text("timeout\nx")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}:2: near 'x': expected a number of seconds"
    assert caught.value.exit_code == 78


def test_comments_may_be_in_any_encoding_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_bytes(b"\xef\xbb\xbf# Gr\xfc\xdfe, \xff\x00\r\npidfile /x\r\n")
    assert load(str(path)).pidfile == "/x"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_bytes(b"pidfile /\xff")
    with pytest.raises(ConfigError, match=":1: near "):
        load(str(path))


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("hasta.example.org", ("hasta", "hasta.example.org", MACHINE)),
        ("hasta", ("hasta", MACHINE)),
        (".odd", (".odd", MACHINE)),
    ],
)
def test_a_node_is_called_by_first_label_host_name_and_machine_id(
    host: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    machine_id = tmp_path / "machine-id"
    machine_id.write_text(f"{MACHINE}\n")
    assert node_names(host, str(machine_id)) == names


@pytest.mark.parametrize("content", ["", "uninitialized\n", MACHINE[1:], MACHINE + "0", "x" * 32, "\xff" * 32])
def test_a_machine_id_that_is_none_is_left_out(content: str, tmp_path: Path) -> None:
    machine_id = tmp_path / "machine-id"
    machine_id.write_text(content, encoding="latin-1")
    assert node_names("hasta", str(machine_id)) == ("hasta",)
    assert node_names("hasta", str(tmp_path / "missing")) == ("hasta",)


def test_without_arguments_the_names_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "something-else")
    assert node_names()[0] == os.uname().nodename.partition(".")[0]
