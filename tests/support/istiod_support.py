"""What the tests with Istio's control plane share: a lab as a program, a file to edit, and calls that are counted."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support import DEADLINE_SECONDS, ROOT, get, replace_text, wait_until

K8S = ROOT / "k8s"


class LabProgram:
    """A running `meshdemo up -f` with the example and a file of policies that a test edits, as a person would."""

    def __init__(self, folder: Path, *options: str, policy: str = "# none\n", env: dict[str, str] | None = None):
        self.policy = folder / "policy.yaml"
        self.policy.write_text(policy)
        self.lines: list[str] = []
        self.mark = 0
        clean = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME", "LANG", "PYTHONPATH", "XDG_CACHE_HOME")
        }
        files = ["-f", str(K8S / "example.yaml"), "-f", str(self.policy)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshdemo", "up", *files, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**clean, **(env or {})},
            cwd=ROOT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for_line("Press Ctrl+C to stop", seconds=60)
        except BaseException:
            self.close()
            raise

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for_line(self, text: str, since: int = 0, seconds: float = DEADLINE_SECONDS) -> str:
        """Return the first line that holds `text`, which may be to come."""

        def found():
            line = next((line for line in self.lines[since:] if text in line), None)
            assert line or self.process.poll() is None, "\n".join(self.lines)
            return line

        return wait_until(found, repr(text), seconds)

    def ports_of(self, name: str) -> list[int]:
        """Return the ports at which something was called so far, as the lab said it: `service/proxy`."""
        found = [re.search(rf"https?://\S+:(\d+)/  {re.escape(name)}$", line) for line in self.lines]
        return [int(each[1]) for each in found if each]

    def port_of(self, name: str) -> int:
        """Return the port at which something is called now."""
        return self.ports_of(name)[-1]

    @property
    def port(self) -> int:
        """Return the port of the proxy."""
        return self.port_of("service/proxy")

    def edit(self, text: str) -> list[str]:
        """Write the policies as an editor would, and return what the lab has said when the change is complete."""
        before = self.mark = len(self.lines)
        if text == self.policy.read_text():
            return []
        replace_text(self.policy, text)

        def verdict():
            lines = self.lines[before:]
            return any(re.search(r"in force|rolling out|not applied|no effective change", line) for line in lines)

        wait_until(verdict, "a verdict on an edit")
        if any("rolling out" in line for line in self.lines[before:]):
            self.wait_for_line("rolled out:", before)
        for line in [line for line in self.lines[before:] if " to call: http://" in line]:
            port = int(re.search(r":(\d+)/", line.partition(" to call: ")[2])[1])
            wait_until(lambda port=port: _answers(port), line)
        self.mark = len(self.lines)
        return self.lines[before:]

    def logged(self, pod: str, path: str) -> int:
        """Return how often a pod was called for a path since the last edit, as its access log says."""
        return sum(line.startswith(pod) and f" GET {path} " in line for line in self.lines[self.mark :])

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()


def _answers(port: int) -> bool:
    try:
        return bool(get(port, "/readyz"))
    except (OSError, http.client.HTTPException):
        return False


def self_signed(host: str) -> tuple[bytes, bytes]:
    """Return a certificate for a host that is its own authority, and its key, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*encoding)


class Answers(list[dict]):
    """What a proxy said in JSON to a number of calls, counted in several ways."""

    @property
    def statuses(self) -> Counter:
        return Counter(each["status"] for each in self)

    @property
    def versions(self) -> Counter:
        return Counter(each["value"]["content"] for each in self if isinstance(each["value"], dict))

    @property
    def pods(self) -> Counter:
        return Counter(each["value"]["hostname"] for each in self if isinstance(each["value"], dict))

    @property
    def texts(self) -> Counter:
        """Return what those said that no application answered."""
        return Counter(each["value"].strip() for each in self if isinstance(each["value"], str))

    @property
    def errors(self) -> Counter:
        return Counter(each["error"] for each in self if each["error"])

    def slow(self, milliseconds: float) -> int:
        """Return how many took that long."""
        return sum(each["milliseconds"] >= milliseconds for each in self)


def ask(port: int, path: str = "/", count: int = 60, *, rate: float = 0, concurrency: int = 8, **headers) -> Answers:
    """Call a proxy a number of times, at a steady rate where one is given, and return what it said."""
    headers = {"Accept": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    started = time.monotonic()

    def one(number):
        if rate:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        return json.loads(get(port, path, **headers)[2])

    with ThreadPoolExecutor(concurrency) as pool:
        return Answers(pool.map(one, range(count)))
