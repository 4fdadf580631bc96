"""README and docs hold: links, anchors, code blocks, and the options that they name."""

import ast
import inspect
import re
import shlex
from dataclasses import fields

import pytest
from docs.reading import NAMES, PAGES, ROOT, anchors, blocks, hook, prose

import refiner
from refiner.runs.settings import Settings

COMMANDS = hook("command_reference").commands()
FLAGS = {name: hook("command_reference").flags(command) for name, command in COMMANDS.items()}
SHOWN_ELSEWHERE = {"--version"}
"""Options of ``refine`` itself."""
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

every_page = pytest.mark.parametrize("path", PAGES, ids=NAMES)


@every_page
def test_links_and_anchors_hold(path) -> None:
    for target in LINK.findall(prose(path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            text = file.read_text("utf-8")
            shared = re.search(r"<!-- file: (\S+) -->", text)
            text = (ROOT / shared[1]).read_text("utf-8") if shared else text
            assert anchor in anchors(text), target


@every_page
def test_python_blocks_compile_and_call_what_is_there(path) -> None:
    for _, _, code in blocks(path.read_text("utf-8"), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "refiner" or hasattr(refiner, node.attr), node.attr
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("refiner."):
                called = getattr(refiner, ast.unparse(node.func).split(".")[1])
                taken = set(inspect.signature(called).parameters)
                if called is refiner.refine:
                    taken |= {field.name for field in fields(Settings)}
                if ast.unparse(node.func).count(".") == 1:
                    assert {word.arg for word in node.keywords} <= taken, ast.unparse(node)


def commands_of(text: str) -> list[str]:
    """Return every ``refine ...`` of a page: lines of its blocks, and inline code."""
    lines = []
    text = text.replace("\\\n", " ")
    for found in re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines += found.splitlines()
    lines += re.findall(r"^    (.+)$", prose(text), re.MULTILINE)
    lines += INLINE.findall(prose(text))
    return [line.strip() for line in lines if re.match(r"\s*refine( |$)", line)]


def options_in(line: str) -> list[tuple[str, str]]:
    """Return (command, option) of a line of the shell."""
    words = shlex.split(line.split("#")[0].replace("...", ""))[1:]
    name = words[0] if words and words[0] in COMMANDS else "run"
    return [(name, word.split("=")[0]) for word in words if word.startswith("--")]


@every_page
def test_options_named_exist(path) -> None:
    text = path.read_text("utf-8")
    for line in commands_of(text):
        for name, flag in options_in(line):
            assert flag in FLAGS[name] | SHOWN_ELSEWHERE, f"{flag} in: {line}"


@every_page
def test_options_in_prose_exist(path) -> None:
    if path.name == "CHANGELOG.md" or path.parent.name == "benchmarks":
        return  # removed options, and those of the benchmarks' scripts
    known = set().union(*FLAGS.values(), SHOWN_ELSEWHERE)
    for code in INLINE.findall(prose(path.read_text("utf-8"))):
        if code.startswith("--"):
            assert code.split()[0].split("=")[0] in known, code


def test_there_is_something_to_check() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert ("run", "--budget") in [
        pair for line in commands_of(readme) for pair in options_in(line)
    ]
    assert len(readme.splitlines()) <= 150


def test_a_page_of_the_repository_gets_links_of_the_site() -> None:
    text = "[a](docs/method.md#x), [b](CONTRIBUTING.md), [c](cli/app.py), [d](https://e.org)"
    changed = hook("shared_pages").with_site_links(text, "README.md", "index.md")
    assert changed == "[a](method.md#x), [b](contributing.md), c, [d](https://e.org)"


def test_the_reference_lists_every_option_of_every_command() -> None:
    text = hook("command_reference").reference()
    for name, command in COMMANDS.items():
        assert f"## `refine {name}`" in text
        for parameter in command.params:
            flag = parameter.opts[0]
            assert flag == "--help" or not flag.startswith("-") or flag in text
