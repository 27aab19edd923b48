"""The files that come with the program, found from any folder."""

import shutil
from pathlib import Path

import pytest
from support import ROOT

from meshdemo import bundled
from meshdemo.errors import StartError


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_a_clone():
    """In a clone they are those at its top."""
    assert bundled.folder() == ROOT / "k8s"


def test_installed(tmp_path, monkeypatch):
    """In an installed package they are inside of it."""
    package = tmp_path / "site-packages" / "meshdemo"
    shutil.copytree(ROOT / "k8s", package / "k8s")
    monkeypatch.setattr(bundled, "__file__", str(package / "bundled.py"))
    assert bundled.folder() == package / "k8s"


def test_what_a_person_reads():
    """A file that comes with the program is shown by the name that finds it, any other as it is."""
    assert bundled.shown(str(ROOT / "k8s" / "istio" / "split.yaml")) == "k8s/istio/split.yaml"
    for other in ("mine.yaml", "/tmp/k8s/mine.yaml", "standard input", "https://example.com/a.yaml", ""):  # noqa: S108
        assert bundled.shown(other) == other


@pytest.mark.parametrize("name", ["example.yaml", "istio/split.yaml", "k8s/example.yaml", "k8s/istio/split.yaml"])
def test_a_name_that_is_no_file_here(elsewhere, name):
    """Where there is no such file, its name means the one that comes with the program, as in a clone or inside it."""
    assert bundled.find(Path(name)) == ROOT / "k8s" / name.removeprefix("k8s/")


@pytest.mark.parametrize(
    "name",
    ["-", "", "istio", "split.yaml", "README.md", "../k8s/example.yaml", "k8s/../k8s/example.yaml", "/example.yaml",
     "a\0.yaml", "istio/../../setup.yaml"],
)  # fmt: skip
def test_other_names_mean_nothing(elsewhere, name):
    """Only manifests are meant, by their paths from the folder."""
    assert bundled.find(Path(name)) is None


@pytest.mark.parametrize("name", ["example.yaml", "istio/split.yaml", "k8s/istio/split.yaml"])
def test_what_is_here_is_meant(elsewhere, name):
    """A file, or a folder, of one's own hides all that comes with the program under its name, also if it lacks it."""
    (elsewhere / Path(name).parts[0]).mkdir()
    assert bundled.find(Path(name)) is None


def test_a_copy_can_be_edited(tmp_path):
    """Files can be written in a copy of what was installed for reading only."""
    source = tmp_path / "source"
    (source / "istio").mkdir(parents=True)
    (source / "istio" / "split.yaml").write_text("kind: VirtualService\n")
    (source / "istio" / "split.yaml").chmod(0o444)
    bundled.copy(source, tmp_path / "a" / "b")
    (copied,) = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert copied == tmp_path / "a" / "b" / "istio" / "split.yaml"
    assert copied.stat().st_mode & 0o200


def test_a_copy_replaces_nothing(tmp_path):
    """A folder that is there stays as it is; what cannot be written is named."""
    with pytest.raises(StartError, match=f"{tmp_path} exists already: name a folder that does not."):
        bundled.copy(ROOT / "k8s", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"/file/x: not a directory\."):
        bundled.copy(ROOT / "k8s", tmp_path / "file" / "x")
