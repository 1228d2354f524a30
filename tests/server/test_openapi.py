"""The OpenAPI document says what the server takes and gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.live_server import serving

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

OPERATIONS = {
    ("/v1/completions", "post"): ("CompletionRequest", "200", "Completion"),
    ("/v1/chat/completions", "post"): ("ChatRequest", "200", "ChatCompletion"),
    ("/v1/models", "get"): (None, "200", "ModelList"),
    ("/v1/models/{model}", "get"): (None, "200", "ModelCard"),
    ("/v1/states", "post"): ("StateRequest", "201", "State"),
    ("/v1/states/{state}", "get"): (None, "200", "State"),
    ("/v1/states/{state}", "delete"): (None, "200", "DeletedState"),
    ("/v1/states/{state}/fork", "post"): (None, "201", "State"),
    ("/v1/next", "post"): ("NextRequest", "200", "Next"),
    ("/v1/trace", "post"): ("TraceRequest", "200", "Trace"),
    ("/v1/step", "post"): ("StepRequest", "200", "Step"),
    ("/health", "get"): (None, "200", "Health"),
    ("/metrics", "get"): (None, "200", None),
}
ERRORS = {"400", "401", "403", "404", "405", "408", "413", "415", "421", "429", "431", "500", "default"}


def model_of(content: dict[str, Any]) -> str | None:
    reference = content.get("application/json", {}).get("schema", {}).get("$ref")
    return reference and reference.rpartition("/")[2]


@pytest.mark.parametrize("key", [None, "sesame"])
def test_every_operation_names_what_it_takes_and_gives(made: Path, key: str | None) -> None:
    with serving(made, key=key) as served:
        document = json.loads(served.request("GET", "/openapi.json")[2])
    assert document["openapi"].startswith("3.1")
    found = {(path, method): o for path, methods in document["paths"].items() for method, o in methods.items()}
    assert set(found) == set(OPERATIONS)
    for place, (takes, status, gives) in OPERATIONS.items():
        operation = found[place]
        assert set(operation["responses"]) == ERRORS | {status}
        assert model_of(operation["responses"][status]["content"]) == gives
        assert {model_of(operation["responses"][error]["content"]) for error in ERRORS} == {"Error"}
        body = operation.get("requestBody")
        assert (body and model_of(body["content"])) == takes
        assert ("security" in operation) == (key is not None and place[0] != "/health")
    for path, request in (("/v1/completions", "CompletionRequest"), ("/v1/chat/completions", "ChatRequest")):
        events = found[path, "post"]["responses"]["200"]["content"]
        assert set(events) == {"application/json", "text/event-stream"}
        assert document["components"]["schemas"][request]["additionalProperties"] is False


def test_head_answers_as_get_does_without_a_body_and_a_path_says_all_its_methods(made: Path) -> None:
    with serving(made) as served:
        status, headers, body = served.request("HEAD", "/v1/models")
        assert (status, body) == (200, b"")
        assert headers["content-type"] == "application/json"
        status, headers, _ = served.request("PUT", "/v1/states/none")
        assert (status, headers["allow"]) == (405, "DELETE, GET, HEAD")
