"""What is installed: every room, and the lessons, which are then found from any folder."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest
from support import ROOT

from meshdemo import __version__

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
PACKAGES = CONFIG["options"]["packages"].split()
DATA = {package: patterns.split() for package, patterns in CONFIG["options.package_data"].items()}


def files():
    """Return all files of the rooms and of k8s/, but for what Python writes there."""
    paths = [path for folder in ("meshdemo", "k8s") for path in (ROOT / folder).rglob("[!.]*") if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in paths if path.suffix != ".pyc"}


def source(package):
    """Return the folder that a package is made of."""
    return ROOT / "k8s" if package == "meshdemo.k8s" else ROOT / package.replace(".", "/")


def test_every_package_is_declared():
    """Each room of the program is installed: setup.cfg cannot find them by itself, since k8s/ is not among them."""
    rooms = [str(path.parent.relative_to(ROOT)) for path in (ROOT / "meshdemo").rglob("__init__.py")]
    assert sorted(PACKAGES) == sorted(["meshdemo.k8s", *(room.replace("/", ".") for room in rooms)])


def test_every_file_is_declared():
    """Each file of the rooms and of k8s/ that is no module is installed, too."""
    declared = {path for package, patterns in DATA.items() for each in patterns for path in source(package).glob(each)}
    assert {str(path.relative_to(ROOT)) for path in declared} == {name for name in files() if not name.endswith(".py")}


def test_the_changelog_knows_the_version():
    """The version of the package has a dated section, the newest that was released."""
    released = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == __version__


@pytest.mark.thorough
def test_the_wheel_works_in_an_empty_folder(tmp_path):
    """It holds all that is in the repository, and once installed finds lessons and manifests from an empty folder."""
    copy, folder = tmp_path / "copy", tmp_path / "empty"
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", *files()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Without the tree under test on the module path, where pip would find it installed already.
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, copy], check=True, env=plain)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name if name.startswith("meshdemo/") else f"meshdemo/{name}" for name in files()}

    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True, env=plain)
    libraries = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": libraries, "PYTHONUTF8": "1"}
    folder.mkdir()
    for command, words in (
        ("lesson", "\n 2 Weighted split "),
        ("lesson split --check --port 0", "✓ Webserver V1"),
        ("up --dry-run -f example.yaml -f istio/split.yaml", "is not here: this is the one that comes with meshdemo"),
        ("lesson --copy mine", "was copied to mine"),
        ("lesson --folder mine", "\n 2 Weighted split "),
    ):
        done = subprocess.run(
            [python.with_name("meshdemo"), *command.split()],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert words in done.stdout + done.stderr
