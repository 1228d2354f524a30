"""Bad requests get the right 4xx with a sentence, whoever may not talk is refused, and the server goes on."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live_server import START_S, Served, head_and_body, opened, serving
from support.tiny_runs import command, running

import storycell

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

COMPLETIONS = "/v1/completions"
RIGHT = {"Authorization": "Bearer sesame"}
FINE = {"prompt": "Once", "max_tokens": 2, "seed": 1}


@pytest.fixture(autouse=True)
def still_serves(served: Served) -> Iterator[None]:
    """After every refusal the server answers as before."""
    yield
    assert served.post(COMPLETIONS, FINE)["choices"][0]["finish_reason"] in ("length", "stop")


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({}, 400, "'prompt' is missing"),
        ([], 400, "must be a JSON object"),
        ("Once", 400, "must be a JSON object"),
        ({"prompt": 3}, 400, "prompt"),
        ({"prompt": [1, 2]}, 400, "ids are not accepted"),
        ({"prompt": []}, 400, "empty list"),
        ({"prompt": None}, 400, "prompt"),
        (FINE | {"max_tokens": -1}, 400, "max_tokens: input should be greater than or equal to 0"),
        (FINE | {"max_tokens": 10**9}, 400, "at most 100,000"),
        (FINE | {"max_tokens": "5"}, 400, "max_tokens: input should be a valid integer"),
        (FINE | {"max_tokens": 2.5}, 400, "max_tokens"),
        (FINE | {"max_tokens": True}, 400, "max_tokens"),
        (FINE | {"temperature": -0.1}, 400, "temperature"),
        (FINE | {"top_p": 0}, 400, "top_p"),
        (FINE | {"n": 0}, 400, "n: "),
        (FINE | {"n": 128, "prompt": ["a"] * 5}, 400, "640 texts"),
        (FINE | {"stop": ""}, 400, "stop"),
        (FINE | {"stop": ["a"] * 17}, 400, "stop"),
        (FINE | {"logprobs": 21}, 400, "logprobs"),
        (FINE | {"max_tokes": 5}, 400, "there is no parameter 'max_tokes'"),
        (FINE | {"\ud800": 5}, 400, "valid string"),
        (FINE | {"best_of": 4}, 400, "best_of is not supported"),
        (FINE | {"frequency_penalty": 0.5}, 400, "frequency_penalty"),
        (FINE | {"model": "gpt-4"}, 404, "there is no model 'gpt-4'"),
        (FINE | {"state": "../../etc/passwd"}, 404, "there is no such state"),
        (FINE | {"prompt": "naïve \U0001f600"}, 400, "'ï' (U+00EF) at position 2"),
        (FINE | {"prompt": "a" * 100_001}, 413, "100,001 characters; at most 100,000"),
        (FINE | {"prompt": "a" * 10_000_000}, 413, "larger than 1,000,000 bytes"),
        (FINE | {"hold": [{"name": "x", "layer": 0, "unit": 0, "value": 1}]}, 400, "the values of a lstm are i, f, g"),
        (FINE | {"hold": [{"name": "c", "layer": 1, "unit": 0, "value": 1}]}, 400, "layers count from 0 to 0"),
        (FINE | {"hold": [{"name": "c", "layer": 0, "unit": 8, "value": 1}]}, 400, "units from 0 to 7"),
        (FINE | {"stream_options": {"include_usage": True}}, 400, 'goes with "stream": true'),
    ],
)
def test_a_bad_request_gets_its_status_and_a_sentence(served: Served, body: object, status: int, part: str) -> None:
    found, message = served.refusal(COMPLETIONS, body)
    assert (found, part in message) == (status, True), message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"prompt": "a", "temperature": NaN}', "NaN is not a number"),
        (b'{"prompt": "a", "temperature": 1e999}', "temperature"),
        (b'{"prompt": "\xff"}', "not UTF-8: byte 12"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_json_is_said_to_be_none(served: Served, raw: bytes, part: str) -> None:
    status, message = served.refusal(COMPLETIONS, raw=raw)
    assert status == 400
    assert part in message


def test_wrong_paths_methods_and_media_types(served: Served) -> None:
    status, message = served.refusal("/v1/nothing", FINE)
    assert status == 404
    assert "the API is described at /openapi.json" in message
    for path in (
        "/..%2f..%2fetc/passwd",
        "/page/../../app.py",
        "//etc/passwd",
        "/v1/states/..%2f..%2fx",
        "/v1/completions/",
    ):
        assert served.refusal(path, method="GET")[0] == 404
    status, headers, _ = served.request("GET", COMPLETIONS)
    assert (status, headers["allow"]) == (405, "POST")
    assert served.request("POST", COMPLETIONS, FINE, headers={"Content-Type": "text/plain"})[0] == 415


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completion",
        "/chat/completions",
        "/completions",
        "/v1/v1/completions",
        "/v1/completions/completions",
        "/v1/responses",
        "/models",
        "/api/generate",
        "/completion",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_who_asks_at_a_wrong_path_is_told_where_the_completions_are(served: Served, path: str, method: str) -> None:
    status, message = served.refusal(path, {"messages": []}, method=method)
    assert status == 404
    assert "POST /v1/completions" in message
    assert "ends in /v1" in message
    assert "POST /v1/chat/completions" in message


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "a b"}, 400),
        ({"Host": "LOCALHOST:1"}, 200),
        ({"Host": "[::1]:99"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        # behind a proxy that ends TLS, which keeps the name, with its port or without, or puts its own into Host
        ({"Host": "localhost", "Origin": "https://localhost"}, 200),
        ({"Host": "LocalHost:443", "Origin": "https://localhost"}, 200),
        ({"Host": "localhost", "Origin": "https://LOCALHOST:443"}, 200),
        ({"Host": "localhost:8443", "Origin": "https://localhost:8443"}, 200),
        ({"Host": "[::1]:8443", "Origin": "https://[::1]:8443"}, 200),
        ({"Host": "localhost", "Origin": "https://localhost:8443", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "https://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "localhost", "Origin": "https://localhost:8443"}, 403),
        ({"Host": "localhost:8443", "Origin": "https://localhost"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "https://localhost"}, 403),
        ({"Host": "localhost", "Origin": "https://localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost", "Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Host": "localhost", "Origin": "https://localhost.evil.example"}, 403),
        ({"Host": "localhost", "Origin": "https://localhost@evil.example"}, 403),
        ({"Host": "localhost", "Origin": "file://localhost"}, 403),
        ({"Host": "localhost", "Origin": "null", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Host": "localhost", "Origin": ""}, 403),
    ],
)
def test_other_names_and_other_origins_are_refused(served: Served, headers: dict[str, str], status: int) -> None:
    assert served.request("POST", COMPLETIONS, FINE, headers=headers)[0] == status


def test_the_pages_own_origin_may_write(served: Served) -> None:
    assert served.request("POST", COMPLETIONS, FINE, headers={"Origin": served.url})[0] == 200


def test_every_answer_carries_the_headers_that_protect_a_browser(served: Served) -> None:
    for path in ("/", "/page.js", "/health", "/v1/nothing", "/v1/models"):
        _, headers, _ = served.request("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    page = served.request("GET", "/")[2].decode()
    assert "<style" not in page
    assert "style=" not in page
    assert " on" not in page.replace(" one", "").replace(" on<", "") or "onclick" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_key_is_asked_for_where_there_is_one(locked: Served) -> None:
    for given in (None, "Bearer wrong", "Bearer sesam", "Basic sesame", "sesame", "Bearer \xff"):
        headers = {} if given is None else {"Authorization": given}
        status, answered, content = locked.request("POST", COMPLETIONS, FINE, headers=headers)
        assert (status, answered["www-authenticate"]) == (401, "Bearer")
        assert json.loads(content)["error"]["code"] == "invalid_api_key"
        assert locked.request("GET", "/metrics", headers=headers)[0] == 401
    assert locked.request("POST", COMPLETIONS, FINE, headers=RIGHT)[0] == 200
    assert locked.request("GET", "/health")[0] == locked.request("GET", "/")[0] == 200


def test_too_many_texts_at_once_are_told_to_come_again(locked: Served) -> None:
    assert locked.request("POST", COMPLETIONS, FINE | {"n": 3}, headers=RIGHT)[0] == 400
    with opened(locked, receive_buffer=2_048) as reader:  # fills the places, and reads nothing
        endless = FINE | {"n": 2, "max_tokens": 100_000, "temperature": 0, "stream": True}
        reader.sendall(head_and_body(endless, "localhost", key="sesame"))
        assert reader.recv(15) == b"HTTP/1.1 200 OK"
        status, headers, content = locked.request("POST", COMPLETIONS, FINE, headers=RIGHT)
        assert (status, headers["retry-after"]) == (429, "1")
        assert "as many texts as it can" in json.loads(content)["error"]["message"]


def test_the_command_says_in_a_sentence_why_it_cannot_serve(
    served: Served, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORYCELL_API_KEY", raising=False)
    command(capsys, "serve", made, "--host", "0.0.0.0").stated(2, "STORYCELL_API_KEY", "--allow-anyone")
    command(capsys, "serve", made, "--port", served.address[1]).stated(2, f"port {served.address[1]}", "in use")
    command(capsys, "serve", made, "--port", 99_999).stated(2, "port 99999")
    command(capsys, "serve", made, "--max-streams", 0).stated(2, "max_streams = 0")
    command(capsys, "serve", "nowhere").stated(1, "nowhere")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delattr(storycell, "server")
    for name in [name for name in sys.modules if name.startswith("storycell.server")]:
        monkeypatch.delitem(sys.modules, name)
    command(capsys, "serve", made).stated(2, "the package uvicorn", "pip install 'storycell[serve]'")


def test_the_command_serves_until_it_is_told_to_stop(made: Path) -> None:
    words = [sys.executable, "-m", "storycell", "serve", str(made), "--port", "0", "--json"]
    with running(words, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stdout.readline())
        assert told["model"] == "run"
        assert Served(told["url"], process).request("GET", "/health")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(START_S) == 0
        said = process.stderr.read()
        assert told["url"] in said
        assert "Traceback" not in said


def test_in_the_background_of_a_script_the_server_leaves_ctrl_c_ignored(made: Path) -> None:
    words = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "storycell", "serve", str(made)]
    with running([*words, "--port", "0", "--json"], text=True) as process:
        assert process.stdout is not None
        served = Served(json.loads(process.stdout.readline())["url"], process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)  # it would be gone: a server that stops looks ten times a second
        assert served.request("GET", "/health")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0


def test_a_signal_right_after_the_address_is_known_stops_the_server(made: Path) -> None:
    with serving(made) as served:  # terminates it at once, and waits for its end
        assert served.process.poll() is None
    assert served.process.returncode == 0
