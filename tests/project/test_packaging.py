"""What is declared: dependencies with bounds, and all that the code imports."""

import ast
import configparser
import re
import subprocess
import sys

import pytest
from support import ROOT

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
REQUIREMENTS = {
    "": CONFIG["options"]["install_requires"].split("\n")[1:],
    **{extra: lines.split("\n")[1:] for extra, lines in CONFIG["options.extras_require"].items()},
}
# The name to install, where it is not the name to import.
INSTALLED_AS = {"yaml": "PyYAML", "google": "protobuf", "grpc": "grpcio"}


@pytest.mark.parametrize(
    "line",
    [line for lines in REQUIREMENTS.values() for line in lines if not line.startswith("meshdemo[")],
)
def test_bounds(line):
    """Each dependency has a lowest version and ends before the next major one, what lints before the next minor."""
    name, low, high = re.fullmatch(r"([\w-]+) >= ([\d.]+), < ([\d.]+)", line).groups()
    major, minor, *_ = map(int, low.split("."))
    assert high == (f"{major}.{minor + 1}" if name in ("mypy", "ruff") else str(major + 1))


def test_every_import_is_declared():
    """What the application imports is what setup.cfg installs with it, and the lab may import its extra."""
    lab = [*(ROOT / "meshdemo/lab").rglob("*.py"), ROOT / "meshdemo/lessons/stages/lab_stage.py"]
    rest = [path for path in (ROOT / "meshdemo").rglob("*.py") if path not in lab]
    for paths, extras in ((rest, [""]), (lab, ["", "lab"])):
        names = set()
        for path in paths:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add(node.module.split(".")[0])
        foreign = {INSTALLED_AS.get(name, name) for name in names - sys.stdlib_module_names - {"meshdemo", "_typeshed"}}
        declared = {line.split(" ")[0] for extra in extras for line in REQUIREMENTS[extra]}
        assert foreign <= declared
        assert paths is lab or foreign == declared


def test_ci_finds_the_lowest_versions():
    """The expression by which .ci/run reads setup.cfg gives one version for each dependency."""
    (command,) = re.findall(r"^(sed -nE .* setup\.cfg) >", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    lines = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = [line for lines in REQUIREMENTS.values() for line in lines if not line.startswith("meshdemo[")]
    assert lines.splitlines() == [re.sub(r" >= ([\d.]+),.*", r"==\1", line) for line in expected]
