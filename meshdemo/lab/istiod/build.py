"""Compiles Istio's control plane once, into the user's cache, and finds it there.

The program is made of main.go here and of Istio as a Go module, whose version go.mod names. With it are kept the
definitions of Istio's and the Gateway API's objects, by which an API server would judge them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshdemo.errors import StartError
from meshdemo.lab.pods.guard import Guard

#: The version that the lab's sidecars say they have; go.mod names the module's version that belongs to it.
ISTIO_VERSION = "1.32.0"

_SOURCE = Path(__file__).parent
# Beside which the extra `istiod` installs Go.
_PYTHON = Path(sys.executable)
_SOURCES = ("main.go", "go.mod", "go.sum")
_PROGRAM = "istiod"
_MODULE = "istio.io/istio"
# Where the module has the definitions.
_DEFINITIONS = {
    "istio.yaml": "manifests/charts/base/files/crd-all.gen.yaml",
    "gateway-api.yaml": "tests/integration/pilot/testdata/gateway-api-crd.yaml",
}
# What a build needs of disk, in GiB: the modules and Go's own intermediate results, measured, and some to spare.
_NEEDED_GIB = 5
# Packages that are linked and hardly run are not optimized, which halves the time that they take.
_PLAIN = (
    "istio.io/istio/pilot/pkg/bootstrap/...",
    "istio.io/istio/pilot/pkg/config/kube/agentgateway/...",
    "istio.io/istio/pilot/pkg/serviceregistry/ambient/...",
    "github.com/envoyproxy/go-control-plane/envoy/...",
    "github.com/google/cel-go/...",
    "k8s.io/api/...",
    "k8s.io/client-go/applyconfigurations/...",
    "k8s.io/client-go/kubernetes/...",
)
_REPORT_SECONDS = 1.0
# What the names of folders begin with in which it is compiled.
_MAKING = "making-"
_GO = re.compile(r"go(\d+)\.(\d+)")

Say = Callable[[str], object]


class BuildError(StartError):
    """The program cannot be made, or has not been; `str()` is one line for a person."""


@dataclass(frozen=True)
class Program:
    """The compiled program, and the definitions that it is started with."""

    executable: str
    definitions: tuple[str, ...]


def folder() -> Path:
    """Return where the program of this version and source is kept (XDG Base Directory Specification)."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((_SOURCE / name).read_bytes())
    return _cache() / f"{ISTIO_VERSION}-{digest.hexdigest()[:12]}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "meshdemo" / "istiod"
    except RuntimeError:
        raise BuildError("there is no home folder to keep Istio's control plane in: set XDG_CACHE_HOME") from None


def find() -> Program:
    """Return the program; raise BuildError when it has not been made."""
    made = folder()
    if not (made / _PROGRAM).is_file():
        raise BuildError("Istio's control plane has not been compiled: run meshdemo istiod build")
    return Program(str(made / _PROGRAM), tuple(str(made / name) for name in _DEFINITIONS))


def remove() -> int:
    """Remove every version from the cache, and return how many bytes that were; raise BuildError where any stays."""
    cache = _cache()
    size = sum(path.lstat().st_size for path in cache.rglob("*") if path.is_file())
    _remove_tree(cache)
    if cache.exists():
        raise BuildError(f"{cache} cannot be removed: does all in it belong to you?")
    return size


def make(say: Say, show: Say) -> Program:
    """Compile the program unless it has been, and return it; raise BuildError.

    `say` takes lines, `show` how far it is, again and again. When two start at once, one waits for the other.
    """
    made = folder()
    if (made / _PROGRAM).is_file():
        return find()
    go = _find_go()
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(made.parent).free / 1024**3
    except OSError as error:
        raise BuildError(f"{made.parent} cannot be written: {(error.strerror or str(error)).lower()}") from None
    with _lock(made.parent, say):
        if (made / _PROGRAM).is_file():
            return find()
        if free < _NEEDED_GIB:
            raise BuildError(
                f"{made.parent} has {free:.1f} GiB left, and compiling takes {_NEEDED_GIB}: make room there"
            )
        say(f"compiling Istio {ISTIO_VERSION}'s control plane, once, with {go}")
        say("This takes about 5 minutes on two processors, and downloads 140 MB of modules unless Go has them already.")
        say(f"It keeps 150 MB in {made}; `meshdemo istiod remove` removes them.")
        # However this process ends, Go ends with it, and its folder is removed.
        guard = Guard(made.parent, _MAKING)
        try:
            _compile(go, guard, show)
            shutil.rmtree(made, ignore_errors=True)
            (guard.folder / "made").rename(made)
        finally:
            guard.close()
    return find()


@contextmanager
def _lock(cache: Path, say: Say) -> Iterator[None]:
    """Hold the cache for this process alone; what others left half made, because they were killed, is removed."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another meshdemo is compiling it: waiting for that.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob(f"{_MAKING}*"):
            _remove_tree(left)
        yield


def _remove_tree(path: Path) -> None:
    """Remove a folder as far as that can be; Go's modules in it are write-protected."""
    for inner, _, _ in os.walk(path):
        with contextlib.suppress(OSError):  # somebody else's
            Path(inner).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _find_go() -> str:
    """Return Go's program: from PATH, else from the extra `istiod`; raise BuildError when none is new enough."""
    wanted = _GO.search("go" + re.findall(r"^go (\S+)", (_SOURCE / "go.mod").read_text(), re.MULTILINE)[0])
    too_old = ""
    beside = str(_PYTHON.parent / "go")
    for candidate in (shutil.which("go"), beside if os.access(beside, os.X_OK) else None):
        if candidate is None:
            continue
        environment = {**os.environ, "GOTOOLCHAIN": "local"}
        done = subprocess.run([candidate, "version"], capture_output=True, text=True, check=False, env=environment)
        version = _GO.search(done.stdout)
        if version and wanted and [int(part) for part in version.groups()] >= [int(part) for part in wanted.groups()]:
            return candidate
        too_old = f" ({candidate} is {version[0] if version else 'no Go'})"
    needed = ".".join(wanted.groups()) if wanted else ""
    raise BuildError(
        f"--istiod compiles Istio's control plane, which takes Go {needed} or newer{too_old}: install it, or the extra "
        "`istiod`, from a clone of meshdemo with pip install '.[lab,istiod]'"
    )


def _compile(go: str, guard: Guard, show: Say) -> None:
    work, group = guard.folder, guard.group
    source, made, temporary = work / "source", work / "made", work / "temporary"
    for folder in (source, made, temporary):
        folder.mkdir()
    for name in _SOURCES:
        shutil.copyfile(_SOURCE / name, source / name)
    environment = {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "GOTMPDIR": str(temporary),
        "TMPDIR": str(temporary),
    }
    environment.setdefault("HOME", str(work))  # Go does not start without
    if "GOGC" not in environment:  # a sixth less of processor time, for some memory
        environment |= {"GOGC": "off", "GOMEMLIMIT": "1GiB"}
    known = _output([go, "env", "GOMODCACHE"], source, environment, group)
    if not Path(known).is_dir():  # this user has no Go at work: leave nothing of it behind
        environment |= {"GOPATH": str(work / "go"), "GOMODCACHE": str(work / "modules"), "GOCACHE": str(work / "cache")}
    modules = len(re.findall(r"^\t\S+ v", (source / "go.mod").read_text(), re.MULTILINE))
    _run(
        [go, "list", "-deps", "."],
        source,
        environment,
        group,
        lambda count: show(f"downloading modules: {count} of up to {modules}"),
    )
    packages = len(_output([go, "list", "-deps", "."], source, environment, group).splitlines())
    started = time.monotonic()

    def report(count: int) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        show(f"compiling: {count} of up to {packages} packages, {minutes}:{seconds:02} minutes")

    flags = ["-v", "-trimpath", "-ldflags", f"-s -w -X main.version={ISTIO_VERSION}", "-o", str(made / _PROGRAM)]
    optimized = ["-gcflags", "all=-dwarf=false"]
    plain = [flag for packages in _PLAIN for flag in ("-gcflags", f"{packages}=-dwarf=false -N -l")]
    _run([go, "build", *flags, *optimized, *plain, "."], source, environment, group, report)
    module = Path(_output([go, "list", "-m", "-f", "{{.Dir}}", _MODULE], source, environment, group))
    for name, path in _DEFINITIONS.items():
        shutil.copyfile(module / path, made / name)


def _output(command: list[str], where: Path, environment: dict[str, str], group: int) -> str:
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, check=False, process_group=group
    )
    if done.returncode:
        raise BuildError(_reason(done.stderr))
    return done.stdout.strip()


def _run(
    command: list[str], where: Path, environment: dict[str, str], group: int, report: Callable[[int], object]
) -> None:
    """Run a step of the build, and report how many lines it has told so far, once a second at most."""
    lines: list[str] = []
    reported = 0.0
    with subprocess.Popen(
        command,
        cwd=where,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=group,
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line)
                if time.monotonic() >= reported + _REPORT_SECONDS:
                    reported = time.monotonic()
                    report(len(lines))
        except BaseException:
            process.kill()  # what it has started is the guard's to end
            raise
        if process.wait():
            raise BuildError(_reason("".join(lines)))


def _reason(errors: str) -> str:
    """Return in one line why Go failed."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("go: downloading")]
    text = lines[-1] if lines else "it gives no reason"
    if re.search(r"dial tcp|no such host|connection refused|i/o timeout|proxyconnect|TLS handshake", errors):
        return f"Istio's modules cannot be downloaded, which takes a network once: {text}"
    if "no space left" in errors:
        return f"the disk is full: {text}"
    return f"Go could not compile Istio's control plane: {text}"
