"""The lock pins all that storycell needs, by hash; the audit finds what is known of it, and never passes in silence."""

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
BLOCK = re.compile(r"^([\w.-]+)==([^\s;\\]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
PINS = {canonicalize_name(name): Version(version) for name, version, _ in BLOCK.findall(LOCK)}
ODD = {
    "id": "GHSA-xxxx-0001",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "six", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.17.0"}]}],
        }
    ],
}


def test_every_line_of_the_lock_is_a_version_with_hashes() -> None:
    rest = BLOCK.sub("", LOCK)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "://" not in LOCK
    assert len(PINS) > 50


def test_what_the_project_asks_for_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(word for extra in project["optional-dependencies"].values() for word in extra),
    ]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted += [line for line in constraints if line and not line.startswith("#")]
    seen = 0
    for requirement in map(Requirement, wanted):
        if requirement.name == "storycell":
            continue
        version = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"run `make lock`: {requirement}, and {version} in the lock"
        seen += 1
    assert seen > 20
    assert str(PINS["torch"]).endswith("+cpu"), "`make lock` has to find torch's CPU build"


@contextmanager
def answering(vulnerabilities: list[object]) -> Iterator[str]:
    """A server that speaks OSV's protocol and says the same of every package; gives its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"vulns": vulnerabilities} if vulnerabilities else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(lock: Path, url: str) -> subprocess.CompletedProcess[str]:
    """The audit by OSV's protocol alone."""
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed")
    words = [sys.executable, ROOT / "tools" / "audit.py", lock, "--service", "osv", "--osv-url", url]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.write_text(
        f"# made by hand\nsix==1.16.0 \\\n    --hash=sha256:{'0' * 64}\ntorch==2.13.0+cpu \\\n    --hash=x\n"
    )
    return path


def test_a_known_vulnerability_fails_the_audit_by_name(lock: Path) -> None:
    with answering([ODD]) as url:
        done = audit(lock, url)
    assert done.returncode == 1, done.stderr
    assert "six 1.16.0: GHSA-xxxx-0001, fixed in 1.17.0" in done.stdout
    assert "2 of 2 packages audited by osv: 2 known" in done.stdout


def test_nothing_known_is_said_to_be_audited(lock: Path) -> None:
    with answering([]) as url:
        done = audit(lock, url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 of 2 packages audited by osv: 0 known vulnerabilities\n"


def test_where_nobody_answers_it_says_so_and_does_not_pass(lock: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        done = audit(lock, f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT AUDITED: no service")
    assert "0 known" not in done.stdout


def test_a_lock_that_pins_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.lock").write_text("# nothing\n")
    done = audit(tmp_path / "empty.lock", "http://127.0.0.1:9/")
    assert done.returncode == 1
    assert "pins nothing" in done.stderr
