"""The OpenAPI 3.1 document, made from the table of operations and the pydantic models."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

import storycell
from storycell.server import schemas

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "The request makes no sense; the message says why",
    401: "The key is missing or wrong",
    403: "A write from another origin",
    404: "There is no such thing",
    405: "The method is not for this path",
    408: "The body did not arrive in time",
    413: "Too long",
    415: "The body is not declared as JSON",
    421: "This server does not answer to the name in the Host header",
    429: "Too much at once; try again later",
    431: "The path and the headers are too long",
    500: "A bug",
}

_EVENT = {
    "type": "object",
    "description": "One event of a streamed answer",
    "properties": {
        "data": {"type": "string", "description": "the JSON of a part of the answer; [DONE] after the last"}
    },
    "required": ["data"],
}


@dataclass(frozen=True)
class Operation:
    """A method of a path: what handles it, what it takes and gives. `events`: it can also stream."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    gives: type[BaseModel] | None
    takes: type[BaseModel] | None = None
    status: int = 200
    events: bool = False


def document(operations: list[Operation], model_id: str, has_key: bool) -> dict[str, Any]:
    """The document as a JSON object."""
    kinds = {kind for o in operations for kind in (o.gives, o.takes) if kind} | {schemas.Error}
    named = sorted(kinds, key=lambda kind: kind.__name__)
    _, definitions = models_json_schema([(kind, "validation") for kind in named], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, model_id, has_key)
    components: dict[str, Any] = {"schemas": definitions["$defs"]}
    if has_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "storycell",
            "version": storycell.__version__,
            "description": f"Writes with the model {model_id}. A token is a character.",
        },
        "paths": paths,
        "components": components,
    }


def _described(operation: Operation, model_id: str, has_key: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if operation.gives is not None:
        answer = {"application/json": {"schema": _reference(operation.gives)}}
    if operation.events:
        answer["text/event-stream"] = {"schema": _EVENT}
    error = {"application/json": {"schema": _reference(schemas.Error)}}
    responses: dict[str, Any] = {str(operation.status): {"description": "As asked", "content": answer}}
    responses |= {str(status): {"description": said, "content": error} for status, said in _ERRORS.items()}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.handler.__name__,
        "responses": responses,
    }
    if operation.takes is not None:
        content = {"application/json": {"schema": _reference(operation.takes)}}
        found["requestBody"] = {"required": True, "content": content}
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if has_key and operation.path != "/health":
        found["security"] = [{"key": []}]
    return found


def _reference(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=kind.__name__)}
