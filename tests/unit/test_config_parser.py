import dataclasses
import re
from pathlib import Path

import pytest

from hastfs.address import parse as address
from hastfs.config.complaint import GLOBAL, NODE, PLACES, RESOURCE, RESOURCE_NODE
from hastfs.config.parser import parse
from hastfs.config.schema import Config, ResourceConfig
from hastfs.errors import ConfigError, DataError
from hastfs.model import Checksum, Compression, Replication

NAMES = ("hasta", "hasta.example.org", "0123456789abcdef0123456789abcdef")
MINE = "on hasta { remote none local /x }"


def understood(text: str) -> Config:
    return parse(text, "hast.conf", NAMES)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        understood(text)
    return str(caught.value)


def only(text: str) -> ResourceConfig:
    (resource,) = understood(text).resources.values()
    return resource


def test_an_empty_file_means_defaults_and_no_resources() -> None:
    assert understood("") == Config(
        path="hast.conf",
        control="/var/run/hastctl",
        pidfile="/var/run/hastd.pid",
        listen=(),
        mountdir="/run/hast",
        resources={},
    )


def test_a_minimal_resource_gets_every_default() -> None:
    assert only("resource r { on hasta { remote 192.0.2.2 local /dev/sdb } }") == ResourceConfig(
        name="r",
        provider="r",
        local="/dev/sdb",
        remote=address("192.0.2.2"),
        source=None,
        replication=Replication.MEMSYNC,
        checksum=Checksum.NONE,
        compression=Compression.HOLE,
        timeout=20,
        exec=None,
        metaflush=True,
        device=True,
    )


def test_every_statement_arrives() -> None:
    config = understood(
        """control uds:///c pidfile /p listen ::1 mountdir /m metrics 127.0.0.1
        resource r {
            replication async checksum sha256 compression lzf timeout 7 exec /e metaflush off
            on hasta { name n local /l remote tcp4://b:1 source 192.0.2.1 device off }
        }"""
    )
    assert config == Config(
        path="hast.conf",
        control="/c",
        pidfile="/p",
        listen=(address("::1"),),
        mountdir="/m",
        metrics=address("127.0.0.1", default_port=8458),
        resources={
            "r": ResourceConfig(
                name="r",
                provider="n",
                local="/l",
                remote=address("tcp4://b:1"),
                source=address("192.0.2.1", default_port=0),
                replication=Replication.ASYNC,
                checksum=Checksum.SHA256,
                compression=Compression.LZF,
                timeout=7,
                exec="/e",
                metaflush=False,
                device=False,
            )
        },
    )


def test_a_source_without_a_port_leaves_the_port_to_the_system() -> None:
    assert only("resource r { local /x on hasta { remote none source a } }").source == address("a", default_port=0)
    assert only("resource r { local /x on hasta { remote none source a:9 } }").source == address("a:9")


def test_a_source_with_a_port_is_warned_of_on_its_own_node() -> None:
    text = "resource r {{ local /x\non hasta {{ remote none source {} }}\non hastb {{ remote none source {} }} }}"
    assert understood(text.format("[::1]:9", "b")).warnings == (
        "hast.conf:2: near '[::1]:9': two connections cannot come from one port; leave it out.",
    )
    assert understood(text.format("::1", "b:9")).warnings == ()


@pytest.mark.parametrize(
    ("statement", "field", "default", "given", "other"),
    [
        ("replication", "replication", Replication.MEMSYNC, "fullsync", "async"),
        ("checksum", "checksum", Checksum.NONE, "crc32", "sha256"),
        ("compression", "compression", Compression.HOLE, "lzf", "none"),
        ("timeout", "timeout", 20, "5", "6"),
        ("exec", "exec", None, "/a", "/b"),
        ("fence", "fence", None, "/a", "/b"),
        ("autorole", "autorole", False, "on", "off"),
        ("metaflush", "metaflush", True, "off", "on"),
    ],
)
def test_a_resource_inherits_from_the_global_section_wherever_it_stands(
    statement: str, field: str, default: object, given: str, other: str
) -> None:
    def value(text: str) -> object:
        return getattr(only(text), field)

    plain = f"resource r {{ {MINE} }}"
    specific = f"resource r {{ {statement} {given} {MINE} }}"
    assert value(plain) == default
    assert value(f"{statement} {given} {plain}") == value(f"{plain} {statement} {given}") == value(specific) != default
    assert value(f"{statement} {other} {specific}") == value(specific) != value(f"{statement} {other} {plain}")


@pytest.mark.parametrize(
    ("statement", "field", "given", "other"),
    [
        ("name", "provider", "a", "b"),
        ("local", "local", "/a", "/b"),
        ("metaflush", "metaflush", "off", "on"),
        ("device", "device", "off", "on"),
    ],
)
def test_this_nodes_section_overrides_its_resource(statement: str, field: str, given: str, other: str) -> None:
    base = "" if statement == "local" else "local /l"

    def value(resource: str, node: str) -> object:
        return getattr(only(f"resource r {{ on hasta {{ {node} remote none }} {base} {resource} }}"), field)

    inherited = value(f"{statement} {given}", "")
    assert value(f"{statement} {other}", f"{statement} {given}") == inherited
    assert value(f"{statement} {other}", "") != inherited


def test_metaflush_of_the_node_overrides_resource_and_global() -> None:
    text = "metaflush {} resource r {{ metaflush {} on hasta {{ metaflush {} local /x remote none }} }}"
    assert not only(text.format("on", "on", "off")).metaflush
    assert only(text.format("off", "off", "on")).metaflush


@pytest.mark.parametrize(
    ("statement", "field", "default"),
    [
        ("control", "control", "/var/run/hastctl"),
        ("pidfile", "pidfile", "/var/run/hastd.pid"),
        ("mountdir", "mountdir", "/run/hast"),
        ("statedir", "statedir", "/var/lib/hast"),
    ],
)
def test_this_nodes_daemon_settings_override_global_ones(statement: str, field: str, default: str) -> None:
    def value(text: str) -> object:
        return getattr(understood(text), field)

    assert value(f"on hastb {{ {statement} /b }}") == default
    assert value(f"on hasta {{ {statement} /a }} on hastb {{ {statement} /b }} {statement} /g") == "/a"
    assert value(f"on hastb {{ {statement} /b }} {statement} /g") == "/g"


def test_listen_addresses_of_the_global_section_and_of_this_node_add_up() -> None:
    config = understood("on hasta { listen b listen c } on hastb { listen x } listen a listen a:9")
    assert config.listen == tuple(map(address, ("a", "a:9", "b", "c")))


@pytest.mark.parametrize("again", ["192.0.2.1", "192.0.2.1:8457", "tcp://192.0.2.1"])
def test_an_address_cannot_be_listened_on_twice(again: str) -> None:
    assert (
        refused(f"listen tcp4://192.0.2.1\non hasta {{\nlisten {again} }}")
        == f"hast.conf:3: near '{again}': given twice; the first one is in line 1"
    )


@pytest.mark.parametrize("name", [*NAMES, "HASTA", "0123456789ABCDEF0123456789abcdef"])
def test_a_node_answers_to_each_of_its_names(name: str) -> None:
    assert only(f"resource r {{ on hastb {{ remote b }} on {name} {{ remote none local /x }} }}").remote is None


@pytest.mark.parametrize("name", ["hast", "hastaa", "hasta.example", "example.org", "0123456789abcdef"])
def test_a_node_does_not_answer_to_similar_names(name: str) -> None:
    assert (
        refused(f"\nresource x {{ local /x on {name} {{ remote none }} }}")
        == "hast.conf:2: No resource x configuration for this node (acceptable node names: "
        "hasta, hasta.example.org, 0123456789abcdef0123456789abcdef)."
    )


def test_a_resource_without_any_node_has_no_section_for_this_one() -> None:
    assert "No resource x configuration for this node" in refused("resource x { local /x }")


def test_a_resource_needs_a_remote_address() -> None:
    text = "\nresource x { local /x on hasta { } on hastb { remote a } }"
    assert refused(text) == "hast.conf:2: Remote address not configured for resource x."


def test_a_resource_needs_a_component() -> None:
    text = "\nresource x { on hasta { remote none } on hastb { local /x } }"
    assert refused(text) == "hast.conf:2: Path to local component not configured for resource x."


def test_a_resource_is_configured_once() -> None:
    text = f"resource test {{ {MINE} }}\n\nresource test {{ {MINE} }}"
    assert refused(text) == "hast.conf:3: Resource test configured more than once. The first one is in line 1."


TRANSFER = [
    ("replication", ("async", "fullsync"), "replication"),
    ("checksum", ("crc32", "sha256"), "checksum"),
    ("compression", ("none", "lzf"), "compression"),
    ("timeout", ("1", "2"), "timeout"),
    ("exec", ("/a", "/b"), "exec"),
    ("metaflush", ("on", "off"), "metaflush"),
]
COMPONENT = [
    ("name", ("a", "b"), "provider"),
    ("local", ("/a", "/b"), "local"),
    ("metaflush", ("on", "off"), "metaflush"),
    ("device", ("on", "off"), "device"),
]
PEER = [
    ("remote", ("a", "none"), "remote"),
    ("source", ("a", "b"), "source"),
]


@pytest.mark.parametrize(
    "text",
    [
        "timeout 1\ntimeout 1",
        "\ntimeout 1\nresource r {{ {mine} }} timeout 2",
        "on hasta {{\npidfile /a\npidfile /b }}",
        "on hastb {{\npidfile /a\npidfile /b }}",
        "on hasta {{\npidfile /a }} on hasta {{\npidfile /b }}",
        "on hasta {{\npidfile /a }} on hasta.example.org {{\npidfile /b }}",
        "on hastb {{\npidfile /a }} on hastb {{\npidfile /b }}",
        "resource r {{ {mine}\nname a\nname a }}",
        "resource r {{ {mine} on hastb {{\nremote a\nremote b }} }}",
        "resource r {{ on hasta {{ local /x\nremote a }} on hasta {{\nremote none }} }}",
    ],
)
def test_a_statement_given_twice_is_taken_with_a_warning_that_names_both_lines(text: str) -> None:
    lines = text.split("\n")
    word = lines[-1].split()[0]
    if "}} timeout 2" in text:
        word = "timeout"
    assert understood(text.format(mine=MINE)).warnings == (
        f"hast.conf:{len(lines)}: near '{word}': given twice in the same section; "
        f"the one in line {len(lines) - 1} does not count.",
    )


@pytest.mark.parametrize(
    ("section", "keyword", "values", "field"),
    [
        (section, keyword, values, field)
        for section, rows in {
            "{} resource r {{ local /x on hasta {{ remote none }} }}": TRANSFER,
            "resource r {{ local /x {} on hasta {{ remote none }} }}": [*TRANSFER, *COMPONENT],
            "resource r {{ local /x on hasta {{ remote none {} }} }}": [*COMPONENT, *PEER],
        }.items()
        for keyword, values, field in rows
    ],
)
def test_of_a_statement_given_several_times_the_last_one_counts(
    section: str, keyword: str, values: tuple[str, str], field: str
) -> None:
    one, other = values
    repeated = only(section.format(f"{keyword} {other} {keyword} {one}\n{keyword} {other}"))
    assert getattr(repeated, field) == getattr(only(section.format(f"{keyword} {other}")), field)
    assert getattr(repeated, field) != getattr(only(section.format(f"{keyword} {one}")), field)


@pytest.mark.parametrize("keyword", ["control", "pidfile", "mountdir", "statedir"])
@pytest.mark.parametrize("section", ["{}", "on hasta {{ {} }}"])
def test_of_a_daemons_setting_given_several_times_the_last_one_counts(keyword: str, section: str) -> None:
    config = understood(section.format(f"{keyword} /1 {keyword} /2\n{keyword} /3"))
    assert getattr(config, keyword) == "/3"
    assert len(config.warnings) == 2


def test_of_two_sections_for_this_node_the_later_statement_counts_whatever_it_is_called() -> None:
    assert understood("on hasta { pidfile /a } on hasta.example.org { pidfile /b }").pidfile == "/b"
    text = "resource r { local /x on hasta.example.org { remote a } on hasta { remote b } }"
    assert only(text).remote == address("b")


def test_a_value_that_does_not_count_must_be_right_all_the_same() -> None:
    assert refused("timeout 0\ntimeout 1") == "hast.conf:1: near '0': Negative or zero timeout."


def test_a_file_without_repetitions_has_no_warnings() -> None:
    assert understood(f"listen a listen b timeout 1 resource r {{ timeout 2 {MINE} }}").warnings == ()


def test_the_same_statement_in_different_sections_is_no_repetition() -> None:
    text = f"timeout 1 resource a {{ timeout 2 {MINE} }} resource b {{ timeout 3 local /b on hasta {{ remote none }} }}"
    assert [resource.timeout for resource in understood(text).resources.values()] == [2, 3]


def test_several_sections_of_this_node_count_as_one() -> None:
    text = "resource r { on hasta { remote b } on hastb { } on hasta.example.org { local /x } }"
    assert only(text).remote == address("b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("timeout 0", "near '0': Negative or zero timeout."),
        ("timeout 000", "near '000': Negative or zero timeout."),
        ("timeout 2147483648", "expected a number of seconds from 1 to 2147483647"),
        ("timeout " + "9" * 5000, "expected a number of seconds from 1 to 2147483647"),
        ("exec bin/x", "near 'bin/x': expected an absolute path"),
        ("pidfile x", "near 'x': expected an absolute path"),
        ("mountdir x", "near 'x': expected an absolute path"),
        ("control x", "near 'x': expected an absolute path, as in /path, uds:///path or unix:///path"),
        ("control /" + "x" * 107, "at most 107 bytes"),
        ("listen none", "near 'none': expected an address; only `remote` and `metrics` can be none"),
        ("listen a:0", "near 'a:0': port '0' is not a number from 1 to 65535"),
        ("listen tcp://2001:db8::1/64", "without / and a prefix length"),
        ("on hasta { control x }", "expected an absolute path"),
        ("on hastb { listen a:0 }", "port '0' is not"),
        ("on hastb { control x }", "expected an absolute path"),
        ("on hastb { pidfile x }", "expected an absolute path"),
        ("on hastb { mountdir x }", "expected an absolute path"),
        (f"timeout 0 resource r {{ timeout 1 {MINE} }}", "Negative or zero timeout."),
        (f"resource r {{ {MINE} on hastb {{ source a: }} }}", "near 'a:': port '' is not"),
        ("resource . { on hasta { local /x remote none } }", "near '.': expected a name that can be a file name"),
        ("resource .. { on hasta { local /x remote none } }", "near '..': expected a name that can be a file name"),
        ("resource a/b { on hasta { local /x remote none } }", "near 'a/b': expected a name that can be a file name"),
        (f"resource {'x' * 256} {{ {MINE} }}", "expected a name of at most 255 characters"),
        ("resource r { on hasta { name /x local /x remote none } }", "near '/x': expected a name that"),
        (f"resource r {{ name .. {MINE} }}", "near '..': expected a name that"),
        ("resource r { on hasta { local ada0 remote none } }", "near 'ada0': expected the absolute path of a file or"),
        ("resource r { local ada0 on hasta { remote none } }", "there are no GEOM names here"),
        ("resource r { on hasta { local /x remote a: } }", "near 'a:': port '' is not"),
        (f"resource r {{ {MINE} on hastb {{ remote a: }} }}", "near 'a:': port '' is not"),
        ("resource r { on hasta { local /x remote none source none } }", "only `remote` and `metrics` can be none"),
        (f"resource r {{ exec x {MINE} }}", "near 'x': expected an absolute path"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_line_and_the_reason(text: str, reason: str) -> None:
    message = refused("\n\n" + text)
    assert message.startswith("hast.conf:3: near '")
    assert reason in message


def test_the_line_of_a_bad_value_is_the_values_own() -> None:
    assert refused("timeout\n0").startswith("hast.conf:2: ")


def test_the_longest_timeout_and_leading_zeros_are_taken() -> None:
    assert only(f"timeout 2147483647 resource r {{ {MINE} }}").timeout == 2147483647
    assert only(f"timeout 0020 resource r {{ {MINE} }}").timeout == 20


def test_names_and_components_of_another_node_are_that_nodes_business() -> None:
    text = (
        "resource r { local ada0 name a/b on hastb { local mirror/x name c/d } on hasta { local /x name y remote a } }"
    )
    assert (only(text).local, only(text).provider) == ("/x", "y")


RESOURCES = "resource a {{ {} on hasta {{ remote none }} }}\nresource b {{ {} on hasta {{ remote none }} }}"


@pytest.mark.parametrize(("first", "second"), [("name x", "name x"), ("name b", ""), ("", "name a")])
def test_two_resources_of_this_node_cannot_share_a_provider_name(first: str, second: str) -> None:
    name = (second or first).split()[1]
    assert (
        refused(RESOURCES.format(f"local /a {first}", f"local /b {second}"))
        == f"hast.conf:2: Provider name {name} of resource b is also that of resource a in line 1."
    )


@pytest.mark.parametrize("second", ["/srv/x", "/srv//x", "/srv/./x", "/srv/y/../x", "/srv/x/"])
def test_two_resources_of_this_node_cannot_share_a_component(second: str) -> None:
    assert (
        refused(RESOURCES.format("local /srv/x", f"local {second}"))
        == "hast.conf:2: Path to local component /srv/x of resource b is also that of resource a in line 1."
    )


def test_swapped_names_and_components_elsewhere_are_no_conflict() -> None:
    config = understood(
        RESOURCES.format("local /a name b on hastb { local /z }", "local /b name a on hastb { local /z }")
    )
    assert [(item.provider, item.local) for item in config.resources.values()] == [("b", "/a"), ("a", "/b")]


def test_resources_keep_the_order_of_the_file_and_are_found_by_name() -> None:
    names = ["z", "a", "m"]
    config = understood("".join(f"resource {name} {{ local /{name} on hasta {{ remote none }} }}" for name in names))
    assert list(config.resources) == names
    assert config.resource("a").local == "/a"
    with pytest.raises(DataError, match=r"^Unknown resource b\.$"):
        config.resource("b")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        understood("").pidfile = "/x"  # type: ignore[misc]


@pytest.mark.parametrize("node", ["hasta", "hastb"])
def test_the_sample_file_is_correct_on_both_nodes(node: str) -> None:
    sample = Path(__file__).parents[2] / "hast.conf.sample"
    config = parse(sample.read_text(), str(sample), [node])
    assert list(config.resources) == ["shared", "database"]
    assert len(config.listen) == 1


def test_the_defaults_shown_in_the_sample_file_are_the_defaults() -> None:
    lines = (Path(__file__).parents[2] / "hast.conf.sample").read_text().splitlines()
    shown = [line.strip()[1:] for line in lines if line.strip().startswith("#") and line.strip()[1:2].isalpha()]
    values = dict(line.split() for line in shown if line.split()[0] != "listen")
    for example in ("exec", "fence"):  # there are no defaults
        del values[example]
    config = understood("")
    resource = only("resource shared { local /x on hasta { remote none } }")
    assert values == {
        "control": config.control,
        "pidfile": config.pidfile,
        "metrics": "none" if config.metrics is None else "",
        "mountdir": config.mountdir,
        "statedir": config.statedir,
        "logformat": config.logformat.value,
        "replication": resource.replication.value,
        "checksum": resource.checksum.value,
        "compression": resource.compression.value,
        "timeout": str(resource.timeout),
        "metaflush": "on" if resource.metaflush else "off",
        "autorole": "on" if resource.autorole else "off",
        "device": "on" if resource.device else "off",
        "name": resource.provider,
    }


REFERENCE = (Path(__file__).parents[2] / "docs" / "hast.conf.md").read_text()


def test_the_reference_page_says_where_each_statement_is_legal() -> None:
    sections = (GLOBAL, NODE, RESOURCE, RESOURCE_NODE)
    rows = (re.split(r"(?<!\\)\|", line)[1:6] for line in REFERENCE.splitlines() if re.match(r"\| `[a-z]+ .*?`", line))
    told = {
        head.split("`")[1].split()[0]: tuple(name for name, cell in zip(sections, cells, strict=True) if cell.strip())
        for head, *cells in rows
    }
    assert told == {keyword: places for keyword, places in PLACES.items() if keyword not in {"on", "resource"}}


def test_the_example_of_inheritance_in_the_reference_page_is_true() -> None:
    example = REFERENCE.split("\n## Inheritance\n")[1].split("\nExample: ")[1].split("\n\n", 1)[1].split("\n## ")[0]
    config = understood(example)
    assert [(item.timeout, item.local) for item in config.resources.values()] == [(5, "/srv/a.hasta"), (60, "/srv/b")]


LAID_OUT = """\
control unix:///c
listen tcp4://192.0.2.1
listen [::1]:9000
on hasta {
    listen tcp6://[2001:db8::1]
}
resource on {
    local /x
    on hasta {
        remote [2001:db8::2]:9001
        source 2001:db8::1
    }
    on hastb {
        remote none
    }
}
"""


@pytest.mark.parametrize(
    "text",
    [
        LAID_OUT.replace("\n", "\r\n"),
        LAID_OUT.rstrip("\n"),
        LAID_OUT.replace("\n", " "),
        LAID_OUT.replace("\n", "\n\n\t\n"),
        LAID_OUT.replace("\n", "# comment\n"),
        LAID_OUT.replace("\n", " # comment { } resource\r\n"),
        LAID_OUT.replace(" ", "\n"),
        LAID_OUT.replace(" ", "#\n"),
        LAID_OUT.replace(" {", "#{\n{"),
        LAID_OUT.replace(" {\n", "{").replace("\n}", "}"),
        "#\n" + LAID_OUT + "# no line end",
    ],
)
def test_the_same_words_mean_the_same_however_they_are_laid_out(text: str) -> None:
    assert understood(text) == understood(LAID_OUT)


def test_ipv6_addresses_are_taken_in_every_form_and_place() -> None:
    config = understood(LAID_OUT)
    (resource,) = config.resources.values()
    assert [(item.host, item.port, item.family) for item in config.listen] == [
        ("192.0.2.1", 8457, 4),
        ("::1", 9000, 6),
        ("2001:db8::1", 8457, 6),
    ]
    assert resource.remote is not None
    assert resource.source is not None
    assert (resource.remote.host, resource.remote.port) == ("2001:db8::2", 9001)
    assert (resource.source.host, resource.source.port) == ("2001:db8::1", 0)


@pytest.mark.parametrize("text", ["::1", "[::1]", "[::1]:8457", "tcp6://[::1]:8457", "tcp6://::1", "tcp://[::1]"])
@pytest.mark.parametrize("statement", ["listen {}", "resource r {{ local /x on hasta {{ remote {} }} }}"])
def test_one_ipv6_address_has_many_spellings(text: str, statement: str) -> None:
    config = understood(statement.format(text))
    (found,) = config.listen or (only(statement.format(text)).remote,)
    assert found is not None
    assert (found.host, found.port, found.family, found.text) == ("::1", 8457, 6, text)
