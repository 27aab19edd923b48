"""The names of other libraries that their documentation promises to nobody: which, why, and that they are still there.

Whoever moves to another version of one of the libraries looks through LIBRARY_NAMES first.
"""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest
from support import ROOT

import meshdemo.calling
import meshdemo.serving

#: The versions that all reasons were checked against, in the library's source.
CHECKED = {"waitress": "3.0.2", "urllib3": "2.8.0", "requests": "2.34.2", "http": "Python 3.11 to 3.14"}
LIBRARY_NAMES = [
    # Where it stands, what the names are those of, the names, and why.
    (
        "serving.waitress_parser",
        "waitress.parser.HTTPRequestParser",
        "parse_header received completed header_plus headers_finished headers version error body_rcv command "
        "request_uri",
        "it takes requests that RFC 9112 refuses, waits for ever behind a bare line feed, and lets chunk lines grow",
    ),
    (
        "serving.waitress_parser",
        "waitress.parser.HTTPRequestParser",
        "expect_continue",
        "it sends 100, and never an answer, where a request with an expectation has no body",
    ),
    (
        "serving.waitress_parser",
        "waitress.receiver.ChunkedReceiver",
        "control_line trailer buf",
        "both have no limit; and a body that is too large is to be counted and answered, not reset",
    ),
    (
        "serving.waitress_parser",
        "waitress.parser",
        "ParsingError TransferEncodingNotImplemented get_header_lines",
        "how its parser refuses, and how it unfolds headers, so that both read the same",
    ),
    ("serving.waitress_parser", "waitress.utilities.Error", "code reason body", "refusals have one form"),
    (
        "serving.waitress_channel",
        "waitress.task.WSGITask",
        "execute write build_response_header complete wrote_header has_body content_length content_bytes_written",
        "it sends header and body apart: 1.5 to 1.9 packets an answer instead of 1; its setting send_bytes would hold "
        "back what is streamed",
    ),
    (
        "serving.waitress_channel",
        "waitress.task.Task",
        "set_close_on_finish channel request",
        "connections end while draining, and where close stands in a list",
    ),
    (
        "serving.waitress_channel",
        "waitress.task.ErrorTask",
        "execute status response_headers version write content_length",
        "refusals are one line for people, of HTTP/1.1, logged, and without a body for HEAD",
    ),
    (
        "serving.waitress_channel",
        "waitress.channel.HTTPChannel",
        "parser_class task_class error_task_class last_activity addr server",
        "how the classes above get into its place",
    ),
    (
        "serving.waitress_channel",
        "waitress.channel",
        "ClientDisconnected",
        "how a task is given up whose client has left",
    ),
    (
        "serving.waitress_server",
        "waitress.server.TcpWSGIServer",
        "channel_class handle_accept readable set_socket_options accept socket adj active_channels trigger "
        "_map",
        "at its limit it stops accepting, so that idle clients shut everybody out; it has no draining",
    ),
    (
        "serving.waitress_server",
        "waitress.channel.HTTPChannel",
        "requests request total_outbufs_len last_activity handle_close",
        "which connections make room, and for which the end waits",
    ),
    (
        "serving.waitress_server",
        "waitress.task.ThreadedTaskDispatcher",
        "add_task set_thread_count shutdown",
        "probes have a thread of their own; waitress.serve takes no dispatcher",
    ),
    ("serving.waitress_server", "waitress.wasyncore", "loop close_all dispatcher", "its loop has a thread of its own"),
    (
        "serving.waitress_server",
        "waitress.adjustments.Adjustments",
        "outbuf_high_watermark",
        "what its clients have not read yet is known by it",
    ),
    (
        "calling.connection",
        "urllib3.connection.HTTPConnection",
        "_new_conn _dns_host",
        "connect to another endpoint, with a share of the time for each address",
    ),
    (
        "calling.connection",
        "urllib3.connection.HTTPConnection",
        "connect request getresponse close is_connected timeout sock host port response_class",
        "the deadline of a call is one for all waits; what a kept connection brings too late is nobody's answer",
    ),
    ("calling.connection", "urllib3.connectionpool.HTTPConnectionPool", "ConnectionCls", "how the class above gets in"),
    ("calling.connection", "urllib3.poolmanager.PoolManager", "pool_classes_by_scheme", "how the pool gets in"),
    (
        "calling.connection",
        "ssl.SSLSocket",
        "suppress_ragged_eofs",
        "urllib3 has no way to ask for it when it wraps a socket, and half an answer looks whole without",
    ),
    (
        "calling.connection",
        "requests.adapters.HTTPAdapter",
        "init_poolmanager build_connection_pool_key_attributes request_url build_response cert_verify poolmanager",
        "documented for subclasses, but what they may rely on is not: connections, one TLS context, targets as sent",
    ),
    ("calling.connection", "requests.utils", "DEFAULT_CA_BUNDLE_PATH", "the CAs that requests itself trusts"),
    (
        "calling.response",
        "http.client.HTTPResponse",
        "_read_status _close_conn begin fp chunked length will_close headers",
        "it takes interim answers for the answer, and the end of a connection for that of the headers",
    ),
    (
        "calling.upstream",
        "requests.sessions.Session",
        "get_redirect_target",
        "it would read the body of a redirect, whatever its size",
    ),
]  # fmt: skip
# What the classes below use of these, and what their documentation says of it.
DOCUMENTED = {"readline", "peek", "detach", "family", "getsockname"}  # io.BufferedReader, socket.socket


def find(path):
    """Return the module or class of that name."""
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


def attributes_of(kind):
    """Return the names that a module or a class has, its instances' among them."""
    bases = [base for base in inspect.getmro(kind) if base.__module__ != "builtins"] if inspect.isclass(kind) else []
    sources = [inspect.getsource(base) for base in bases if not base.__module__.startswith("_")]  # which is C
    return {*dir(kind), *re.findall(r"\bself\.(\w+)", "\n".join(sources))}


@pytest.mark.parametrize("row", LIBRARY_NAMES, ids=lambda row: f"{row[0]} {row[1]}")
def test_names_are_used_and_exist(row):
    """Each name of the table stands in the module that it names, and the library still has it."""
    module, owner, names, reason = row
    source = inspect.getsource(importlib.import_module(f"meshdemo.{module}"))
    for name in names.split():
        assert re.search(rf"\b{name}\b", source), f"{name} is not used any more"
        if owner != "ssl.SSLSocket":  # which is given it where a socket is wrapped
            assert name in attributes_of(find(owner)), f"{owner} has no {name}"
    assert reason


def classes():
    """Yield the classes with bases in another library: the module, the class, and these bases."""
    for package in (meshdemo.serving, meshdemo.calling):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for node in ast.walk(ast.parse(inspect.getsource(module))):
                if isinstance(node, ast.ClassDef):
                    bases = [
                        base for base in getattr(module, node.name).__mro__ if base.__module__.split(".")[0] in CHECKED
                    ]
                    if bases:
                        yield found.name.removeprefix("meshdemo."), node, bases


def names_in(node):
    """Yield what a class defines, assigns or looks up."""
    for each in ast.walk(node):
        match each:
            case ast.FunctionDef(name=name) | ast.Attribute(attr=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if each in node.body:
                yield name


def test_the_table_is_whole():
    """What a class takes from its base in another library is in the table, or documented."""
    listed = {}
    for module, _, names, _ in LIBRARY_NAMES:
        listed.setdefault(module, set()).update(names.split())
    missing = set()
    for module, node, bases in classes():
        theirs = set().union(*map(attributes_of, bases)) - set(dir(object))
        taken = theirs & set(names_in(node))
        own = {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.name not in theirs}
        missing |= {(module, name) for name in taken - own - listed.get(module, set()) - DOCUMENTED}
    assert missing == set()


def test_checked_versions_are_allowed():
    """The versions that the table was checked against are those that may be installed."""
    setup = (ROOT / "setup.cfg").read_text()
    for library, version in CHECKED.items():
        if library != "http":
            lowest, above = re.search(rf"^ +{library} >= ([0-9.]+), < ([0-9]+)$", setup, re.MULTILINE).groups()
            checked = tuple(map(int, version.split(".")))
            assert tuple(map(int, lowest.split("."))) <= checked < (int(above),)
