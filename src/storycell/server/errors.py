"""Errors in the shape that OpenAI's clients understand: `{"error": {message, type, param, code}}` and the right status.

`message` is one or two sentences: what is wrong, where, what to do. A client raises the exception that belongs to the
status, with the message in it.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from storycell.data.vocab import well_formed
from storycell.errors import NotFiniteError, StorycellError

_OTHER_RULES = re.compile("guided|json|schema|ebnf|^structured|^format$")  # as other servers name them
_LONGEST_PLACE = 100  # characters of a client's own that an error repeats


class ApiError(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON object of an error."""
    message, param = well_formed(message), None if param is None else well_formed(param)
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: ApiError) -> Response:
    """An `ApiError` as a response."""
    body = error_body(error.status, error.message, error.param, error.code)
    return JSONResponse(body, error.status, headers=error.headers)


def as_api_error(error: Exception) -> ApiError:
    """What to tell the client of an error: of its own, of the model, or of a bug."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotFiniteError):
        return ApiError(500, str(error))
    if isinstance(error, StorycellError):
        return ApiError(400, str(error))
    return ApiError(500, f"unexpected {type(error).__name__}: this is a bug in storycell")


async def on_error(request: Request, error: Exception) -> Response:
    """Answer any other error. One that should not have happened is raised again by Starlette, so that it is logged."""
    return error_response(as_api_error(error))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    said = {
        404: _LOST,
        405: f"{request.method} is not for this path; the header Allow says what is",
    }.get(error.status_code, HTTPStatus(error.status_code).phrase)
    headers = {"Allow": ", ".join(_allowed_methods(request))} if error.status_code == 405 else error.headers
    return error_response(ApiError(error.status_code, said, headers=headers))


def _allowed_methods(request: Request) -> list[str]:
    """The methods of a path; several routes may have one each."""
    here = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
    return sorted({method for route in here for method in route.methods or ()})


_LOST = (  # nearly always a client that was made for another kind of server
    "there is nothing at this path; completions are at POST /v1/completions and POST /v1/chat/completions (the "
    "base_url of OpenAI's clients ends in /v1), and the API is described at /openapi.json"
)


HANDLERS: dict[Any, Any] = {
    ApiError: on_error,
    StorycellError: on_error,
    HTTPException: on_http_exception,
    Exception: on_error,
}


def explain(error: RequestValidationError) -> ApiError:
    """The first thing that is wrong with a request, in a sentence."""
    first = error.errors()[0]
    place = _place(first["loc"][1:])  # the first says that it is the body
    if first["type"] == "extra_forbidden" and _OTHER_RULES.search(place):
        return ApiError(
            400,
            f"{place} is not supported; what a text must be like is said by regex, guided_regex, guided_choice, "
            "grammar or structured_outputs (regex, choice, grammar)",
            param=place,
        )
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"there is no parameter {place!r}; the parameters are described at /openapi.json", param=place
        )
    if first["type"] == "missing":
        return ApiError(400, f"the parameter {place!r} is missing", param=place)
    said = str(first["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    return ApiError(400, f"{place}: {said}" if place else f"the request: {said}", param=place or None)


def _place(parts: tuple[int | str, ...]) -> str:
    """`hold[2].unit` for `("hold", 2, "unit")`; the names of pydantic's own validators are left out."""
    place = ""
    for part in parts:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "list", "int", "float", "bool"):
            place += f".{part}" if place else part
    return place[:_LONGEST_PLACE]


def decode_json(body: bytes) -> Any:
    """The JSON of a body; `ApiError` 400 says why it is none."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    except RecursionError:
        raise ApiError(400, "the body's JSON is nested too deeply") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")
