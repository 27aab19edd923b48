"""The README and the reference promise what the program does."""

import re
import shlex
import subprocess

import click
import pytest
import yaml
from records import policies
from support import COMMANDS, ROOT

from meshdemo.cli import DEFAULT_PROXY_URL, main
from meshdemo.roles import proxy

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
GUIDE = (ROOT / "k8s" / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
DOCUMENTS = {
    "README.md": README,
    "docs/reference.md": REFERENCE,
    "docs/architecture.md": ARCHITECTURE,
    "docs/ci.md": (ROOT / "docs" / "ci.md").read_text(),
    "k8s/README.md": GUIDE,
    "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(),
}
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def table():
    """Return the rows of the option table below the bold row that names their commands."""
    section = REFERENCE.split("| option | environment | default | meaning |")[1].split("\n\n")[0]
    rows, commands = [], []
    for line in section.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("**"):
            commands = re.findall("`(\\w+)`", cells[0]) or ["proxy", "webserver", "up"]
        else:
            rows += [(command, cells) for command in commands]
    return rows


def test_the_readme_takes_five_minutes():
    """The README has at most 1,200 words, its tables, pictures and commands among them."""
    assert len(README.split()) <= 1200


def test_every_option_is_in_the_table():
    """The table has each option of each command with its variables, and no other."""
    promised = {
        (command, frozenset(re.findall(r"`(--?[\w-]+)`", cells[0])), tuple(re.findall(r"`(\w+)`", cells[1])))
        for command, cells in table()
    }
    real = set()
    for name, command in COMMANDS.items():
        for option in command.params:
            if not isinstance(option, click.Option) or option.hidden:
                continue
            variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
            real.add((name, frozenset(option.opts + option.secondary_opts), tuple(variables)))
    assert promised == real


@pytest.mark.parametrize(("command", "cells"), table(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_default_in_the_table(command, cells):
    """Each default in the table is the program's."""
    name = re.search(r"`(--[\w-]+)`", cells[0])[1]
    (option,) = [each for each in COMMANDS[command].params if name in each.opts]
    default = option.to_info_dict()["default"]
    shown = cells[2].strip("`")
    if name == "--access-log":
        shown = "off" if command == "up" else "on"
    expected = {
        "--proxy-url": lambda: f"[a text file]({DEFAULT_PROXY_URL}) that stands for an external service",
    }.get(name, lambda: option.show_default if isinstance(option.show_default, str) else None)()
    if expected is None:
        expected = {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default or "none")
    assert shown == expected.removesuffix(".0")


def test_numbers_of_recorded_policies():
    """The reference counts the policies that are recorded, and those of them that the quick engine refuses."""
    refused = [bool(record.refused) for record in policies().values()]
    counts = (
        f"{len(refused)} recorded policies (`tests/istio/`): {refused.count(False)} identical, {sum(refused)} refused"
    )
    assert counts in " ".join(REFERENCE.split())


def test_forwarded_headers_are_listed():
    """The reference names each header that crosses, some by their beginning."""
    listed = re.findall(
        r"`([\w*-]+)`", REFERENCE.split("The headers that join the spans")[1].split("`--forward-header`")[0]
    )
    for name in proxy.FORWARDED_HEADERS:
        assert any(re.fullmatch(entry.replace("*", ".*"), name) for entry in listed), name
    for entry in listed:
        assert any(re.fullmatch(entry.replace("*", ".*"), name) for name in proxy.FORWARDED_HEADERS), entry


def test_commands_are_the_shape_that_ci_runs():
    """The two commands are there, and .ci/run finds the second."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert blocks[0] == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/meshdemo up\n"
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m 1 '(.*)' README.md", script)[1]
    found = [line for line in README.splitlines() if re.search(pattern, line)]
    assert len(found) == 1
    assert found[0] + "\n" == blocks[-1]


@every_document
def test_files_that_are_named_exist(name):
    """Every path of this repository that is named is there, and so is what a link leads to."""
    text = DOCUMENTS[name]
    for path in re.findall(r"(?<![\w/])((?:meshdemo|k8s|tests|docs)/[\w./-]*[a-z])\b", text):
        assert (ROOT / path).exists(), path
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        target = (ROOT / name).parent / link if link else ROOT / name
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def test_every_room_is_in_the_table():
    """Each package but the quick engine's own has a row that says where to change what, and its modules are there."""
    rows = re.findall(r"^\| `(meshdemo/[\w/]*)` \|.*\| ([^|]*) \|$", ARCHITECTURE, re.MULTILINE)
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "meshdemo").rglob("__init__.py")}
    assert {room for room, _ in rows} == {room for room in packages if "/quick/" not in room.removesuffix("quick/")}
    for room, modules in rows:
        for module in re.findall(r"`([\w./]+)`", modules):
            assert (ROOT / room / module).exists(), f"{room}{module}"


def commands_of(text):
    """Return each command in blocks and in the running text: what stands in sh blocks, behind $, and in backticks."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [part.strip() for line in lines for part in line.split("&&")]


@every_document
def test_commands_are_those_of_the_program(name):
    """Each meshdemo command that is shown is one that the program takes, and each file of another is there."""
    seen = 0
    for command in commands_of(DOCUMENTS[name]):
        words = shlex.split(command, comments=True)
        for path in words:
            if path.startswith("k8s/") and "*" not in path:
                assert (ROOT / path).exists(), command
        if not words or words[0].rpartition("/")[2] != "meshdemo" or len(words) < 2 or words[1] not in COMMANDS:
            continue
        seen += 1
        if "..." in words:
            continue
        context = click.Context(main)
        subcommand = COMMANDS[words[1]]
        if isinstance(subcommand, click.Group):
            assert not words[2:] or words[2] in subcommand.commands
        elif len(words) > 2:
            subcommand.make_context(words[1], words[2:], parent=context, help_option_names=["-h", "--help"])
    assert seen


def test_version_is_the_same_everywhere():
    """The image tag in the README is the package's version, which the changelog knows or is to know."""
    from meshdemo import __version__

    assert set(re.findall(r"meshdemo:([\d.]+\d)", README + GUIDE)) == {__version__}


def test_ci_is_a_valid_script():
    """The script parses."""
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_pipelines_of_the_ci_page():
    """Each pipeline is YAML, runs commands that the program takes, and keeps the folder that --istiod compiles into."""
    _, github, gitlab = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", DOCUMENTS["docs/ci.md"], re.DOTALL))
    job, other = github["jobs"]["policies"], gitlab["policies"]
    ran = [step["run"] for step in job["steps"] if "run" in step]
    for line in [*ran, *other["script"]]:
        words = shlex.split(line)
        if words[0] == "meshdemo":
            COMMANDS[words[1]].make_context(words[1], words[2:], parent=click.Context(main))
    assert sum(line.startswith("meshdemo check ") for line in [*ran, *other["script"]]) == 2
    caches = [step["with"]["path"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache@")]
    assert caches == ["~/.cache/meshdemo"]
    assert other["cache"]["paths"] == [".cache/meshdemo"]
    assert other["variables"]["XDG_CACHE_HOME"] == "$CI_PROJECT_DIR/.cache"
