"""A real proxy that ends TLS in front of a real server: the page's own writes pass, those of other pages do not.

`tls_localhost.pem` is a key and a certificate of its own for `localhost` and `stories.example`, good for nothing else:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj "/CN=storycell tests" \\
      -addext "subjectAltName=DNS:localhost,DNS:stories.example,IP:127.0.0.1" -keyout key.pem -out certificate.pem
"""

import http.client
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import CHROMIUM, FLAGS, needs_chromium
from support.live_server import Served, serving

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

CERTIFICATE = Path(__file__).parents[1] / "support" / "tls_localhost.pem"
NAME = "stories.example"
BODY = {"prompt": "Once", "max_tokens": 3, "seed": 1}


@pytest.fixture(scope="module")
def behind(made: Path) -> Iterator[Served]:
    with serving(made, extra_hosts=[NAME]) as server:
        yield server


class Passing(socketserver.StreamRequestHandler):
    """One connection to the proxy, one request; whatever the server says goes back until it closes."""

    server: "Proxy"

    def handle(self) -> None:
        head = list(iter(self.rfile.readline, b"\r\n"))
        kept = [line for line in head if not line.lower().startswith((b"connection:", b"host:"))]
        given = next(line for line in head if line.lower().startswith(b"host:"))
        host = self.server.host
        kept += [given if host is None else f"Host: {host}\r\n".encode(), b"X-Forwarded-Proto: https\r\n"]
        length = next((int(line[15:]) for line in head if line.lower().startswith(b"content-length:")), 0)
        with socket.create_connection(self.server.behind, timeout=30) as served:
            served.sendall(b"".join([*kept, b"Connection: close\r\n\r\n", self.rfile.read(length)]))
            while piece := served.recv(65_536):
                self.wfile.write(piece)


class Proxy(socketserver.ThreadingTCPServer):
    """Ends TLS and passes on what comes, to one server; `host` replaces the Host header, as some proxies do."""

    def __init__(self, behind: Served, host: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.host = behind.address, host
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        return self._context.wrap_socket(connection, server_side=True), address

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def asked(proxy: Proxy, name: str, headers: dict[str, str], path: str = "/v1/completions") -> tuple[int, bytes]:
    """One write over TLS to a host of this name, which leads to the proxy."""
    context = ssl.create_default_context(cafile=CERTIFICATE)
    with socket.create_connection(("127.0.0.1", proxy.server_address[1]), timeout=30) as plain:
        connection = http.client.HTTPConnection(name)
        connection.sock = context.wrap_socket(plain, server_hostname=name)
        connection.request("POST", path, json.dumps(BODY), {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found


@pytest.mark.parametrize("host", [None, NAME.upper(), "127.0.0.1:1", f"{NAME}:443"], ids=str)
def test_the_pages_own_writes_pass_a_proxy_with_tls_and_those_of_other_pages_do_not(
    behind: Served, host: str | None
) -> None:
    with Proxy(behind, host) as proxy:
        for origin in (f"https://{NAME}", f"https://{NAME.upper()}", f"https://{NAME}:443"):
            status, content = asked(proxy, NAME, {"Origin": origin, "Sec-Fetch-Site": "same-origin"})
            assert (status, json.loads(content).get("object")) == (200, "text_completion"), content
        # a browser that does not say where a page comes from: the proxy has to keep the name
        status, _ = asked(proxy, NAME, {"Origin": f"https://{NAME}"})
        assert status == (403 if host == "127.0.0.1:1" else 200)
        for origin, site in (
            ("https://evil.example", "cross-site"),
            ("https://evil.example", None),
            ("http://evil.example", None),
            (f"https://{NAME}.evil.example", None),
            (f"https://{NAME}:8443", None),
            ("null", None),
            ("null", "cross-site"),
            (f"https://www.{NAME}", "same-site"),
        ):
            status, content = asked(proxy, NAME, {"Origin": origin} | ({"Sec-Fetch-Site": site} if site else {}))
            assert status == 403, (origin, site)
            assert "--allow-host" in json.loads(content)["error"]["message"]


def test_a_name_that_the_server_was_not_told_is_refused_behind_a_proxy_too(behind: Served) -> None:
    headers = {"Origin": "https://localhost", "Sec-Fetch-Site": "same-origin"}
    with Proxy(behind, "other.example") as proxy:
        status, content = asked(proxy, "localhost", headers)
        assert status == 421
        assert "--allow-host other.example" in json.loads(content)["error"]["message"]


@needs_chromium
def test_the_page_writes_through_a_proxy_with_tls_in_a_real_browser(behind: Served) -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with Proxy(behind, None) as proxy, sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(ignore_https_errors=True, reduced_motion="reduce").new_page()
        refused: list[int] = []
        page.on("response", lambda answer: refused.append(answer.status) if answer.status >= 400 else None)
        page.goto(f"https://localhost:{proxy.server_address[1]}")
        page.wait_for_selector("#choices button")  # it has asked what may follow
        with page.expect_response("**/v1/completions") as written:
            page.click("#generate")
        assert written.value.status == 200
        browser.close()
        assert refused == []
