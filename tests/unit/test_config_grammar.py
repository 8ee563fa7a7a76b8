import itertools

import pytest

from hastfs.config.complaint import GLOBAL, NODE, PLACES, RESOURCE, RESOURCE_NODE
from hastfs.config.grammar import Document, NodeSection, ResourceSection, Statement, Word, read
from hastfs.errors import ConfigError


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, "hast.conf")
    return str(caught.value)


def test_every_word_of_a_file_keeps_its_line() -> None:
    text = "timeout 5\n\non a {\n  listen\n  ::1 }\nresource r { # comment { }\nlocal /x on b { remote none } }"
    assert read(text, "f") == Document(
        statements=(Statement(Word("timeout", 1), Word("5", 1)),),
        nodes=(NodeSection(Word("a", 3), (Statement(Word("listen", 4), Word("::1", 5)),)),),
        resources=(
            ResourceSection(
                Word("r", 6),
                (Statement(Word("local", 7), Word("/x", 7)),),
                (NodeSection(Word("b", 7), (Statement(Word("remote", 7), Word("none", 7)),)),),
            ),
        ),
    )


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "#", " \t\r\n\f\v#x\n"])
def test_a_file_that_says_nothing_is_an_empty_document(text: str) -> None:
    assert read(text, "f") == Document((), (), ())


def test_a_comment_ends_a_word_and_a_line_end_ends_a_comment() -> None:
    document = read("timeout 5#6\r\nexec /x# y\xff\x00\nchecksum none", "f")
    assert [(item.keyword.text, item.value.text) for item in document.statements] == [
        ("timeout", "5"),
        ("exec", "/x"),
        ("checksum", "none"),
    ]


def test_braces_need_no_white_space_around_them() -> None:
    assert read("resource a{on b{device on}}on c{}", "f") == read("resource a { on b { device on } } on c { }", "f")


@pytest.mark.parametrize("word", sorted([*PLACES, "off", "none", "memsync", "lzf", "5", "onx", "resource1"]))
def test_words_of_the_language_can_be_names_and_values(word: str) -> None:
    text = (
        f"pidfile {word} on {word} {{ }} resource {word} {{ name {word} on {word} {{ local {word} source {word} }} }}"
    )
    document = read(text, "f")
    (resource,) = document.resources
    assert document.statements[0].value.text == document.nodes[0].name.text == word
    assert resource.name.text == resource.nodes[0].name.text == resource.statements[0].value.text == word
    assert [item.value.text for item in resource.nodes[0].statements] == [word, word]


VALUES = {
    "replication": "async",
    "checksum": "crc32",
    "compression": "lzf",
    "timeout": "5",
    "logformat": "json",
    "metaflush": "on",
    "autorole": "on",
    "device": "off",
    "on": "x { }",
    "resource": "x { }",
}
FRAMES = {
    GLOBAL: "{}",
    NODE: "on n {{ {} }}",
    RESOURCE: "resource r {{ {} }}",
    RESOURCE_NODE: "resource r {{ on n {{ {} }} }}",
}


@pytest.mark.parametrize(("keyword", "section"), list(itertools.product(PLACES, FRAMES)))
def test_a_statement_is_legal_in_its_sections_and_nowhere_else(keyword: str, section: str) -> None:
    text = FRAMES[section].format(f"{keyword} {VALUES.get(keyword, '/x')}")
    if section in PLACES[keyword]:
        read(text, "hast.conf")
        return
    message = refused(text)
    assert message.startswith(f"hast.conf:1: near '{keyword}': not allowed in {section}, only in {PLACES[keyword][0]}")


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("on n { } remote", GLOBAL),
        ("resource r { } remote", GLOBAL),
        ("resource r { on n { } } remote", GLOBAL),
        ("timeout 5 remote", GLOBAL),
        ("on resource { listen a remote", NODE),
        ("resource r { on n { } remote", RESOURCE),
        ("resource r { name x on n { name x } remote", RESOURCE),
        ("resource r { on n { name x resource", RESOURCE_NODE),
        ("resource r { on n { } on m { resource", RESOURCE_NODE),
    ],
)
def test_the_section_a_statement_does_not_belong_in_is_the_one_around_it(text: str, section: str) -> None:
    word = text.rsplit(maxsplit=1)[-1]
    assert f"near '{word}': not allowed in {section}, only in " in refused(f"{text} x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\nreplication sync", "hast.conf:3: near 'sync': expected async, fullsync or memsync"),
        ("replication fullsyncs", "hast.conf:1: near 'fullsyncs': expected async, fullsync or memsync"),
        ("checksum\nmd5", "hast.conf:2: near 'md5': expected crc32, none or sha256"),
        ("compression gzip", "hast.conf:1: near 'gzip': expected hole, lzf or none"),
        ("metaflush yes", "hast.conf:1: near 'yes': expected off or on"),
        ("timeout ten", "hast.conf:1: near 'ten': expected a number of seconds"),
        ("timeout -5", "hast.conf:1: near '-5': expected a number of seconds"),
        ("timeout 5s", "hast.conf:1: near '5s': expected a number of seconds"),
        ("timeout 5.5", "hast.conf:1: near '5.5': expected a number of seconds"),
        ("timeout {", "hast.conf:1: near '{': expected a number of seconds"),
        ("listen {", "hast.conf:1: near '{': expected an address"),
        ("control }", "hast.conf:1: near '}': expected an address (/path, uds:///path or unix:///path)"),
        ("pidfile {", "hast.conf:1: near '{': expected a path"),
        ("on {", "hast.conf:1: near '{': expected a node name"),
        ("resource {", "hast.conf:1: near '{': expected a resource name"),
        ("resource a b", "hast.conf:1: near 'b': expected {"),
        ("resource a { name }", "hast.conf:1: near '}': expected a name"),
        ("resource a { on b { remote } }", "hast.conf:1: near '}': expected an address or none"),
    ],
)
def test_an_error_names_file_line_word_and_what_was_expected(text: str, message: str) -> None:
    assert refused(text) == message


GLOBAL_WORDS = (
    "autorole, checksum, compression, control, exec, fence, listen, logformat, metaflush, metrics, mountdir, on, "
    "pidfile, replication, resource, statedir or timeout"
)
RESOURCE_WORDS = (
    "autorole, checksum, compression, device, exec, fence, local, metaflush, name, on, replication, timeout or }"
)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", GLOBAL_WORDS),
        ("timeout 5 ", GLOBAL_WORDS),
        ("resource a { } ", GLOBAL_WORDS),
        ("on a { ", "control, listen, logformat, metrics, mountdir, pidfile, statedir or }"),
        ("on a { pidfile /x ", "control, listen, logformat, metrics, mountdir, pidfile, statedir or }"),
        ("resource a { metaflush on ", RESOURCE_WORDS),
        ("resource a { on b { } ", RESOURCE_WORDS),
        ("resource a { on b { metaflush on ", "device, local, metaflush, name, remote, source or }"),
        ("resource a { on b { name x ", "device, local, metaflush, name, remote, source or }"),
    ],
)
@pytest.mark.parametrize("word", ["foo", "timeout5", "5", "memsync", "{"])
def test_an_unknown_word_is_answered_with_the_words_of_its_section(before: str, expected: str, word: str) -> None:
    assert refused(before + word) == f"hast.conf:1: near '{word}': expected {expected}"


@pytest.mark.parametrize(
    ("text", "line", "opened"),
    [
        ("on a {", 1, "on a` in line 1"),
        ("on on {", 1, "on on` in line 1"),
        ("\nresource a {\nlocal /x", 3, "resource a` in line 2"),
        ("resource a {\non b {\n\n", 2, "on b` in line 2"),
        ("resource a {\non b { }", 2, "resource a` in line 1"),
    ],
)
def test_a_section_left_open_is_named(text: str, line: int, opened: str) -> None:
    message = refused(text)
    assert message.startswith(f"hast.conf:{line}: at the end of the file: expected ")
    assert message.endswith(f"or }} (`{opened} is still open)")


def test_a_file_that_ends_inside_a_statement_says_so() -> None:
    assert refused("timeout") == "hast.conf:1: at the end of the file: expected a number of seconds"
    assert refused("resource") == "hast.conf:1: at the end of the file: expected a resource name"


def test_a_closing_brace_too_many_is_refused() -> None:
    assert refused("on a {\n}\n}") == f"hast.conf:3: near '}}': expected {GLOBAL_WORDS}"


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ('exec "/x"', 1, "'\"'"),
        ("timeout 5;", 1, "';'"),
        ("\nexec /a=b", 2, "'='"),
        ("\x00", 1, r"'\x00'"),
        ("exec /x\x1b[31m", 1, r"'\x1b'"),
        ("exec /\ufffd", 1, "'\ufffd'"),
        ("exec\u00a0/x", 1, r"'\xa0'"),
    ],
)
def test_a_character_that_no_word_has_is_shown_harmlessly(text: str, line: int, shown: str) -> None:
    assert refused(text).startswith(f"hast.conf:{line}: near {shown}: words are made of letters, digits and ")
