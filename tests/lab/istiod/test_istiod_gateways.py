"""Gateways that end TLS with the certificate of a Secret, configured by Istio's own control plane."""

import base64
import http.client
import json
import socket
import ssl
from contextlib import contextmanager

import pytest
from istiod_support import LabProgram, self_signed
from support import wait_until

HOST = "demo.example.com"
PORTS = ("gateway istio-ingressgateway, port 443", "gateway web-istio, port 443")


def secret(certificate, key, namespace):
    values = {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}
    lines = [f"  {name}: {base64.b64encode(value).decode()}" for name, value in values.items()]
    head = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: demo\n  namespace: {namespace}\ntype: kubernetes.io/tls\n"
    return head + "data:\n" + "\n".join(lines) + "\n---\n"


ISTIO = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: web
spec:
  selector:
    istio: ingressgateway
  servers:
    - port: {{number: 443, name: https, protocol: HTTPS}}
      tls: {{mode: SIMPLE, credentialName: demo}}
      hosts: [{HOST}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
spec:
  hosts: [{HOST}]
  gateways: [web]
  http:
    - route:
        - destination: {{host: webserver}}
---
"""
GATEWAY_API = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: web
spec:
  gatewayClassName: istio
  listeners:
    - name: https
      port: 443
      protocol: HTTPS
      tls: {mode: Terminate, certificateRefs: [{name: demo}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web
spec:
  parentRefs: [{name: web}]
  rules:
    - backendRefs: [{name: webserver, port: 80}]
---
"""


def ask(port, authority, pair=None):
    """Return what answers over TLS when `authority` is trusted, showing the certificate in a file if one is given."""
    context = ssl.create_default_context(cadata=authority.decode())
    if pair:
        context.load_cert_chain(pair)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.read().decode()


@pytest.fixture(scope="module")
def lab(built_istiod, tmp_path_factory):
    running = LabProgram(tmp_path_factory.mktemp("lab"), "--istiod")
    yield running
    print(*running.lines, sep="\n")
    running.close()


def test_the_certificate_of_a_secret(lab, tmp_path):
    """Both kinds of gateway show what the Secret holds, and after an edit what it holds then; its address is https."""
    certificate, key = self_signed(HOST)
    lab.edit(secret(certificate, key, "istio-system") + secret(certificate, key, "default") + ISTIO + GATEWAY_API)
    for name in PORTS:
        answers = wait_until(lambda name=name: _answer(lab.port_of(name), certificate), name)
        assert answers.startswith("Webserver V")
    assert sum("to call: https://127.0.0.1:" in line for line in lab.lines) == 2

    renewed, renewed_key = self_signed(HOST)
    text = secret(renewed, renewed_key, "istio-system") + secret(renewed, renewed_key, "default")
    lines = lab.edit(text + ISTIO + GATEWAY_API)
    assert not [line for line in lines if base64.b64encode(renewed_key).decode()[:40] in line]
    for name in PORTS:
        wait_until(lambda name=name: _answer(lab.port_of(name), renewed), name)
        with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(lab.port_of(name), certificate)

    lab.edit(text + ISTIO.replace("SIMPLE", "MUTUAL"))
    pair = tmp_path / "pair.pem"
    pair.write_bytes(renewed + renewed_key)
    wait_until(lambda: not _answer(lab.port_of(PORTS[0]), renewed), "a certificate asked for")
    assert ask(lab.port_of(PORTS[0]), renewed, pair).startswith("Webserver V")


def test_a_secret_that_is_not_there(lab):
    """Where the files hold any Secret it is said what is missing and where, and what was in force stays."""
    certificate, key = self_signed(HOST)
    other = secret(certificate, key, "default").replace("name: demo", "name: other")
    lines = lab.edit(secret(certificate, key, "default") + ISTIO)
    assert any("Gateway/web: there is no Secret demo in namespace istio-system" in line for line in lines)
    lines = lab.edit(other + GATEWAY_API)
    assert any("spec.listeners[0]: Programmed: Bad TLS configuration (Invalid)" in line for line in lines)


@pytest.mark.thorough
def test_files_without_any_secret(lab):
    """As in a repository or a dump: a certificate of the lab's own stands in, the same one after an edit."""
    lines = lab.edit(ISTIO + GATEWAY_API)
    assert any("since the files hold no Secret: Secret/demo.istio-system, Secret/demo" in line for line in lines)
    shown = {wait_until(lambda name=name: _shown(lab.port_of(name)), name) for name in PORTS}
    assert len(shown) == 1
    lab.edit(ISTIO + GATEWAY_API.replace("port: 80", "port: 80, weight: 2"))
    assert wait_until(lambda: _shown(lab.port_of(PORTS[1])), "the gateway") == shown.pop()
    lab.edit(ISTIO.replace("SIMPLE", "MUTUAL"))
    wait_until(lambda: _unknown_client_is_refused(lab.port_of(PORTS[0])), "a certificate asked for")


@pytest.mark.thorough
def test_plain_text_in_a_secret(lab):
    """What stringData holds counts as an API server has it, for Istio's own checks, too."""
    certificate, key = self_signed(HOST)
    head, _, _ = secret(certificate, key, "default").partition("\ndata:\n")
    values = {"tls.crt": certificate.decode(), "tls.key": key.decode()}
    lab.edit(head + "\nstringData: " + json.dumps(values) + "\n---\n" + GATEWAY_API)
    assert wait_until(lambda: _answer(lab.port_of(PORTS[1]), certificate), "the gateway").startswith("Webserver V")


def _shown(port):
    """Return the certificate that a gateway shows to whoever asks, None as long as it shows none."""
    try:
        with _connected(port) as connection:
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def _unknown_client_is_refused(port):
    try:
        with _connected(port) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            connection.recv(1)
    except ssl.SSLError as error:
        return "CERTIFICATE_REQUIRED" in str(error)
    return False


@contextmanager
def _connected(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        yield connection


def _answer(port, authority):
    try:
        return ask(port, authority)
    except (OSError, http.client.HTTPException):
        return ""
