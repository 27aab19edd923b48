"""The command line: options, the environment, and what is said of bad values."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support import COMMANDS, DEADLINE_SECONDS, ROOT

from meshdemo import __version__
from meshdemo.calling import upstream
from meshdemo.cli import DEFAULT_PROXY_URL, main
from meshdemo.page.page import PageOptions
from meshdemo.roles import local, proxy, webserver
from meshdemo.serving import server

ROLES = ["webserver", "proxy"]


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command whose parts only remember what they were given."""

    def run_command(*args, env=None):
        given = {}

        def create_web_server(*, content, hostname, faults):
            given.update(content=content, hostname=hostname, **asdict(faults))

        def serve(app, name, sockets, options, started):
            given.update(asdict(options))

        def run_locally(serving, *, replicas, faults, started):
            given.update(asdict(serving), replicas=replicas, **asdict(faults))

        monkeypatch.setattr(webserver, "create_app", create_web_server)
        monkeypatch.setattr(upstream, "Upstream", lambda url, **options: given.update(options, proxy_url=url))
        monkeypatch.setattr(proxy, "create_app", lambda upstream, **options: given.update(options))
        monkeypatch.setattr(server, "bind", lambda host, port: [])
        monkeypatch.setattr(server, "serve", serve)
        monkeypatch.setattr(local, "run", run_locally)
        monkeypatch.setattr(server, "exit_process", lambda: None)
        return CliRunner().invoke(main, args, env=env or {}, prog_name="meshdemo"), given

    return run_command


def test_defaults(run):
    """The defaults are those that the README promises."""
    serving = {"host": "", "port": 3030, "threads": 64, "drain_seconds": 5, "access_log": True}
    faults = {"fail_ratio": 1 / 3, "slow_ratio": 1 / 3, "delay_seconds": 2, "fail_status": 500, "everywhere": False}
    assert run("webserver")[1] == {**serving, **faults, "content": "Hello world", "hostname": None}
    calling = {"proxy_url": DEFAULT_PROXY_URL, "timeout_seconds": 30, "keep_alive": False, "connect_to": ()}
    page = {"page_options": PageOptions(32)}
    assert run("proxy")[1] == {**serving, **calling, **page, "pass_status": False, "forward_headers": ()}
    assert run("up")[1] == {**serving, **faults, "host": "127.0.0.1", "replicas": 3, "access_log": False}


# Command, option with value, variable with value, name, expected value.
SETTINGS = [
    *[
        (role, *setting)
        for role in ROLES
        for setting in [
            (["--port", "8080"], ("PORT", "8081"), "port", 8080, 8081),
            (["--host", "127.0.0.1"], ("LISTEN_HOST", "::1"), "host", "127.0.0.1", "::1"),
            (["--host", "*"], ("LISTEN_HOST", "*"), "host", "", ""),
            (["--threads", "3"], ("THREADS", "4"), "threads", 3, 4),
            (["--drain-seconds", "0"], ("DRAIN_SECONDS", "1.5"), "drain_seconds", 0, 1.5),
            (["--no-access-log"], ("ACCESS_LOG", "off"), "access_log", False, False),
            (["--access-log"], ("ACCESS_LOG", "1"), "access_log", True, True),
        ]
    ],
    ("proxy", ["--proxy-url", "http://a/b"], ("PROXY_URL", "https://c:1"), "proxy_url", "http://a/b", "https://c:1"),
    ("proxy", ["--proxy-url", "http://a/b"], ("PROXYURL", "http://c"), "proxy_url", "http://a/b", "http://c"),
    ("proxy", ["--timeout", "0.5"], ("TIMEOUT", "7"), "timeout_seconds", 0.5, 7),
    ("proxy", ["--pass-status"], ("PASS_STATUS", "true"), "pass_status", True, True),
    ("proxy", ["--no-pass-status"], ("PASS_STATUS", "0"), "pass_status", False, False),
    ("proxy", ["--keep-alive"], ("KEEP_ALIVE", "yes"), "keep_alive", True, True),
    (
        "proxy",
        ["--forward-header", "x-a", "--forward-header", "x-b"],
        ("FORWARD_HEADERS", "x-c x-d"),
        "forward_headers",
        ("x-a", "x-b"),
        ("x-c", "x-d"),
    ),
    (
        "proxy",
        ["--connect-to", "a:1:b:2", "--connect-to", ":::"],
        ("CONNECT_TO", "[::1]:80:[::2]:  ::c:65535"),
        "connect_to",
        (("a", 1, "b", 2), ("", 0, "", 0)),
        (("::1", 80, "::2", 0), ("", 0, "c", 65535)),
    ),
    (
        "proxy",
        ["--changes-file", "a"],
        ("CHANGES_FILE", "b"),
        "page_options",
        *(PageOptions(32, Path(n)) for n in "ab"),
    ),
    (
        "proxy",
        ["--lab-socket", "a"],
        ("LAB_SOCKET", "b"),
        "page_options",
        *(PageOptions(32, None, Path(n)) for n in "ab"),
    ),
    ("proxy", ["--threads", "9"], ("THREADS", "1"), "page_options", PageOptions(4), PageOptions(1)),
    ("webserver", ["--hostname", "a"], ("HOSTNAME", "b"), "hostname", "a", "b"),
    ("webserver", ["--content", "V1"], ("CONTENT", "V2"), "content", "V1", "V2"),
    ("webserver", ["--content", "V1"], ("SERVERCONTNET", "V2"), "content", "V1", "V2"),
    ("webserver", ["--fail-ratio", "0"], ("FAIL_RATIO", "1"), "fail_ratio", 0, 1),
    ("webserver", ["--fail-status", "503"], ("FAIL_STATUS", "400"), "fail_status", 503, 400),
    ("webserver", ["--slow-ratio", ".5"], ("SLOW_RATIO", "1e-3"), "slow_ratio", 0.5, 0.001),
    ("webserver", ["--delay", "0"], ("DELAY", "86400"), "delay_seconds", 0, 86400),
    ("webserver", ["--everywhere"], ("EVERYWHERE", "1"), "everywhere", True, True),
    ("up", ["--port", "0"], ("PORT", "1"), "port", 0, 1),
    ("up", ["--host", "*"], ("LISTEN_HOST", "::1"), "host", "", "::1"),
    ("up", ["--host", "::"], ("LISTEN_HOST", "*"), "host", "::", ""),
    ("up", ["--fail-ratio", "0"], ("FAIL_RATIO", "1"), "fail_ratio", 0, 1),
    ("up", ["--access-log"], ("ACCESS_LOG", "on"), "access_log", True, True),
]


@pytest.mark.parametrize(("command", "option", "variable", "name", "by_option", "by_variable"), SETTINGS)
def test_option_then_environment_then_default(run, command, option, variable, name, by_option, by_variable):
    """An option wins over its variable, the variable over the default, and an empty variable counts as unset."""
    environment = dict([variable])
    assert run(command, env=environment)[1][name] == by_variable
    assert run(command, *option, env=environment)[1][name] == by_option
    default = run(command)[1][name]
    assert run(command, env={variable[0]: ""})[1][name] == default


def test_newer_name_wins(run):
    """Where the old and the new variable are set, the new one counts."""
    environment = {"PROXYURL": "http://old", "PROXY_URL": "http://new", "SERVERCONTNET": "old", "CONTENT": "new"}
    assert run("proxy", env=environment)[1]["proxy_url"] == "http://new"
    assert run("webserver", env=environment)[1]["content"] == "new"


def options_of(command):
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def test_every_option_of_a_role_has_a_variable_and_a_help():
    """Every help is a sentence, and what a container may run can be set by the environment."""
    of_roles = {parameter.name for role in ROLES for parameter in options_of(COMMANDS[role])}
    for name, command in COMMANDS.items():
        for parameter in options_of(command):
            assert parameter.help.endswith("."), (name, parameter.name)
            only_by_hand = name in ("watch", "lesson") or parameter.name not in of_roles
            assert parameter.envvar or only_by_hand, (name, parameter.name)


@pytest.mark.parametrize(
    ("args", "value", "rule"),
    [
        (["webserver", "--port", "70000"], "'70000'", "is not a port from 0 to 65535."),
        (["webserver", "--port", "http"], "'http'", "is not a port from 0 to 65535."),
        (["webserver", "--fail-ratio", "1.1"], "'1.1'", "is not a share from 0 to 1, such as 0.3."),
        (["webserver", "--fail-ratio", "30%"], "'30%'", "is not a share from 0 to 1, such as 0.3."),
        (["webserver", "--fail-ratio", "nan"], "'nan'", "is not a share from 0 to 1"),
        (["webserver", "--slow-ratio", "-0.1"], "'-0.1'", "is not a share from 0 to 1"),
        (["webserver", "--slow-ratio", "half"], "'half'", "is not a share from 0 to 1"),
        (["webserver", "--delay", "-1"], "'-1'", "is not a number of seconds from 0 to 86400, such as 2.5, 500ms"),
        (["webserver", "--delay", "inf"], "'inf'", "is not a number of seconds from 0 to 86400"),
        (["proxy", "--timeout", "0"], "'0'", "is not a number of seconds above 0 and up to 86400, such as 2.5"),
        (["watch", "--duration", "2 days"], "'2 days'", "such as 2.5, 500ms or 2m."),
        (["proxy", "--threads", "1.5"], "'1.5'", "is not a whole number from 1 to 1024."),
        (["proxy", "--threads", "0"], "'0'", "is not a whole number from 1 to 1024."),
        (["proxy", "--proxy-url", "webserver"], "webserver", "does not start with http"),
        (["proxy", "--proxy-url", "ftp://webserver"], "ftp://webserver", "does not start with http"),
        (["proxy", "--proxy-url", "http://"], "http://", "no valid host"),
        (["proxy", "--proxy-url", "http:///path"], "http:///path", "no valid host"),
        (["proxy", "--proxy-url", "http://:80"], "http://:80", "no valid host"),
        (["proxy", "--proxy-url", "http://a:99999"], "http://a:99999", "no valid host and port"),
        (["proxy", "--proxy-url", "http://a:0"], "http://a:0", "no valid host and port"),
        (["proxy", "--proxy-url", "http://a b/"], "http://a b/", "no valid host"),
        (["proxy", "--proxy-url", "http://a\\b"], "http://a\\\\b", "no valid host"),
        (["proxy", "--proxy-url", "http://a/b c"], "http://a/b c", "has ' ', which no URL has: write %20."),
        (["proxy", "--proxy-url", "http://a?b\\c"], "http://a?b", "which no URL has: write %5C."),
        (["call", "a b/c"], "'a b/c'", "no valid host"),
        (["call", "a/b c"], "'a/b c'", "has ' ', which no URL has: write %20."),
        (["call", "http://a\nb/"], "http://a\\nb/", "no valid host"),
        (["proxy", "--proxy-url", "http://[::1"], "http://[::1", "no valid host"),
        (["proxy", "--proxy-url", "http://" + "a" * 64], "a" * 64, "no valid host"),
        (["proxy", "--proxy-url", "http://me:secret@a"], "http://me:secret@a", "user name or password"),
        (["proxy", "--forward-header", "Host"], "Host", "belongs to one connection"),
        (["proxy", "--forward-header", "a b"], "a b", "not the name of a header"),
        (["proxy", "--connect-to", "a:1"], "a:1", "HOST1:PORT1:HOST2:PORT2"),
        (["proxy", "--connect-to", "a:1:b:0"], "a:1:b:0", "HOST1:PORT1:HOST2:PORT2"),
        (["proxy", "--connect-to", "a:1:b:65536"], "a:1:b:65536", "HOST1:PORT1:HOST2:PORT2"),
        (["proxy", "--connect-to", "::1:80:b:1"], "::1:80:b:1", "HOST1:PORT1:HOST2:PORT2"),
        (["proxy", "--connect-to", "a:http:b:1"], "a:http:b:1", "HOST1:PORT1:HOST2:PORT2"),
        (["proxy", "--connect-to", "a:1:http://b:1"], "a:1:http://b:1", "HOST1:PORT1:HOST2:PORT2"),
        (["up", "--replicas", "0"], "'0'", "is not a whole number from 1 to 50."),
        (["watch", "ftp://127.0.0.1"], "ftp://127.0.0.1", "does not start with http"),
        (["watch", "/path"], "'/path'", "does not start with http"),
        (["watch", "http://a", "--rate", "-1"], "'-1'", "is not a number from 0 to 10000, such as 20."),
        (["watch", "http://a", "--requests", "-1"], "'-1'", "is not a whole number of 0 or more."),
        (["watch", "http://a", "--concurrency", "0"], "'0'", "is not a whole number from 1 to 1024."),
        (["watch", "http://a", "--header", "end-user"], "end-user", "NAME:VALUE"),
        (["watch", "http://a", "--header", "a b:c"], "a b:c", "NAME:VALUE"),
        (["watch", "http://a", "--header", "a:b\nc"], "a:b\\nc", "NAME:VALUE"),
        (["up", "--nonsense"], "--nonsense", "No such option"),
        (["nonsense"], "nonsense", "No such command"),
        (["webserver", "extra"], "extra", "unexpected extra argument"),
    ],
)
def test_a_bad_value_is_named_in_one_line(run, args, value, rule):
    """A usage error exits 2 and says on one line of standard error what was wrong."""
    result, given = run(*args)
    assert result.exit_code == 2
    assert given == {}
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert value in result.stderr
    assert rule in result.stderr
    assert "valid" not in result.stderr.replace("no valid host", "").replace("Invalid value", "")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FAIL_RATIO", "2", "'2' is not a share from 0 to 1, such as 0.3."),
        ("PORT", "tcp://10.0.0.1:80", "'tcp://10.0.0.1:80' is not a port from 0 to 65535."),
        ("ACCESS_LOG", "maybe", "'maybe' is neither on nor off: give 1 or 0."),
    ],
)
def test_a_bad_variable_is_named(run, variable, value, words):
    """A bad value in the environment is reported with the variable's name, in words."""
    result, _ = run("webserver", env={variable: value})
    assert result.exit_code == 2
    assert variable in result.stderr
    assert result.stderr.endswith(f": {words}\n")


@pytest.mark.parametrize("command", [*ROLES, "up"])
def test_a_busy_port_exits_1_and_is_named(command):
    """A failure to start is one line, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        options = ["--host", "127.0.0.1"] if command in ROLES else []
        done = subprocess.run(
            [sys.executable, "-m", "meshdemo", command, "--port", str(port), *options],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"Error: port {port} is already in use: choose another with --port, or 0 for a free one.\n"


@pytest.mark.parametrize("args", [[], ["proxy", "--help"], ["webserver", "-h"], ["up", "-h"], ["-h"]])
def test_help(args):
    """Help is there at every level, and names the environment."""
    result = CliRunner().invoke(main, args, prog_name="meshdemo")
    assert result.exit_code in (0, 2)
    assert "Usage: meshdemo" in result.output
    if len(args) == 2:
        assert "env var: PORT;" in " ".join(result.output.split())


def test_help_is_in_words():
    """No range is shown as a formula, and no default as (none)."""
    for name in COMMANDS:
        output = CliRunner().invoke(main, [name, "--help"]).output
        for formula in ("<x", "<=x", "x>", "(none)"):
            assert formula not in output


def test_a_command_that_is_misspelt():
    """The nearest command is named, wherever its module is."""
    for wrong, right in (("wach", "watch"), ("weberver", "webserver")):
        result = CliRunner().invoke(main, [wrong])
        assert (result.exit_code, result.output) == (2, f"Error: No such command '{wrong}'. Did you mean '{right}'?\n")


def test_version():
    """The version is the package's."""
    assert CliRunner().invoke(main, ["--version"], prog_name="meshdemo").output == f"meshdemo {__version__}\n"


def test_options_are_declared_in_one_way():
    """Only options that the lab or a lesson gives are hidden, and no name of one that serves means two things."""
    meanings = {}
    for name, command in COMMANDS.items():
        for parameter in options_of(command):
            assert parameter.hidden == (parameter.name in ("changes_file", "heading", "lab_socket"))
            if name != "watch":
                meanings.setdefault(parameter.opts[0], set()).add((str(parameter.envvar), parameter.help))
    assert {name: uses for name, uses in meanings.items() if len(uses) > 1} == {}


def test_web_server_loads_neither_the_http_client_nor_the_lab():
    """The web server starts without requests, whose import takes longer than everything else, and without the lab."""
    script = (
        "import sys, meshdemo.cli, meshdemo.roles.webserver, meshdemo.serving.server; "
        "print([name for name in ('requests', 'urllib3', 'ssl', 'email', 'meshdemo.lab') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


# Ctrl+C


@pytest.fixture
def interrupted(tmp_path):
    """Return a function that sends Ctrl+C's signal while a module is being imported; it gives status and output."""

    def interrupt(*args, module, preexec_fn=None):
        (tmp_path / f"{module}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=preexec_fn,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        )  # fmt: skip
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, stdout, stderr

    return interrupt


@pytest.mark.parametrize(
    ("args", "module"),
    [
        (["webserver"], "click"),
        (["webserver"], "waitress"),
        (["proxy"], "requests"),
        (["up"], "urllib3"),
        (["watch", "http://127.0.0.1:9"], "requests"),
        (["--help"], "click"),
    ],
)
def test_ctrl_c_while_a_command_starts(interrupted, args, module):
    """Ctrl+C while a command still loads what it needs ends it silently with status 130."""
    assert interrupted(*args, module=module) == (130, "", "")


def test_ctrl_c_in_a_job_in_the_background(interrupted):
    """The same where the program that started this one ignores Ctrl+C, as a script does for what it runs with &."""

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert interrupted("watch", "http://127.0.0.1:9", module="requests", preexec_fn=ignore) == (130, "", "")
