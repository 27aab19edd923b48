"""What an Envoy says about itself, as far as it is asked."""

import http.server
import socketserver
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from meshdemo.lab.envoy.admin import Admin

ANSWERS = {
    "/ready": "LIVE\n",
    "/stats?^cluster_manager\\.cds\\.version_text$": 'cluster_manager.cds.version_text: "abc"\n',
    "/stats?^listener_manager\\.lds\\.version_text$": "",
    "/stats?^cluster\\..*\\.version_text$": 'cluster.a.version_text: "1"\ncluster.b.version_text: "2"\n',
    "/stats?(\\.cds|\\.lds|\\.rds\\..*|^cluster\\..*)\\.update_rejected$": (
        "cluster_manager.cds.update_rejected: 1\nhttp.a.rds.80.update_rejected: 2\n"
    ),
    "/config_dump?dynamic_active_clusters": (
        '{"configs": [{"version_info": "v", "cluster": {"name": "a"}}, {"cluster": {"name": "b"}}]}'
    ),
    "/config_dump?dynamic_listeners": (
        '{"configs": [{"name": "a", "active_state": {"version_info": "v"}}, {"name": "b", "warming_state": {}}]}'
    ),
    "/config_dump?dynamic_route_configs": "dynamic_route_configs not found in config dump",
}


@pytest.fixture
def admin(tmp_path, monkeypatch):
    """Give the admin interface of an Envoy that is only played."""
    monkeypatch.chdir(tmp_path)  # so that the socket's path is short

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            key = parts.path + "".join("?" + unquote(value) for values in query.values() for value in values)
            body = ANSWERS[key].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "nobody"

        def log_message(self, *args):
            pass

    with socketserver.ThreadingUnixStreamServer("admin", Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Admin(tmp_path.joinpath("admin").relative_to(tmp_path))
        server.shutdown()
        thread.join()


def test_answers(admin):
    """Versions, rejections and what is in force are read from statistics and dumps."""
    assert admin.is_live()
    assert (admin.taken("clusters"), admin.taken("listeners")) == ("abc", "")
    assert admin.taken_endpoints() == {"1", "2"}
    assert admin.rejected() == 3
    assert admin.active("clusters") == {"a": "v", "b": ""}
    assert admin.active("listeners") == {"a": "v"}
    assert admin.active("routes") == {}


def test_nobody_there(tmp_path):
    """While nobody answers, nothing is live, taken or active."""
    admin = Admin(tmp_path / "admin")
    assert not admin.is_live()
    assert admin.taken("clusters") == ""
    assert admin.rejected() == 0
    assert admin.active("routes") == {}
