"""The HTTP application: which path does what, and its OpenAPI 3.1 document.

`create_app(model, settings)` gives an ASGI application. The table of `Operation`s is the one place where a path is
named: the routes and the OpenAPI document are both made from it. No part of a request becomes a path of the file
system: the page's few files are read once, at the start.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import storycell
from storycell.api import Model
from storycell.server import completions, schemas, state_routes
from storycell.server.errors import HANDLERS, ApiError
from storycell.server.http import ClientGoneError, Drain, EventStream, LongJSON, NoResponse, parsed, unless_gone
from storycell.server.inspect_routes import Traces, following
from storycell.server.security import Guard, ServerSettings
from storycell.server.service import CONTENT_TYPE, Service
from storycell.web import theme

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


_STYLES = ("web/story.css", "web/generate.css", "server/page/page.css")
_PAGE: dict[str, tuple[Callable[[], str], str]] = {
    "/": (lambda: theme.read("server/page/index.html"), "text/html; charset=utf-8"),
    "/page.css": (lambda: theme.css(*_STYLES), "text/css; charset=utf-8"),
    "/page.js": (lambda: theme.script("server/page/page.js"), "text/javascript; charset=utf-8"),
    "/icon.svg": (lambda: theme.read("server/page/icon.svg"), "image/svg+xml"),
}
Handler = Callable[[Request], Awaitable[Response]]


def create_app(model: Model, settings: ServerSettings) -> Starlette:
    """The page and the API around a model; the engine runs while the application does."""
    service = Service(model, settings)
    table = _Endpoints(service).operations()
    openapi = document(table, service.model_id, has_key=settings.api_key is not None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine.start(asyncio.get_running_loop())
        yield
        service.engine.stop()

    async def described(request: Request) -> Response:
        return JSONResponse(openapi)

    routes = [Route(path, _page_file(*file), methods=["GET"]) for path, file in _PAGE.items()]
    routes.append(Route("/openapi.json", described, methods=["GET"]))
    by_path: dict[str, list[Operation]] = {}
    for operation in table:
        by_path.setdefault(operation.path, []).append(operation)
    routes += [_route(service, path, found) for path, found in by_path.items()]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Drain, patience_s=settings.request_timeout_s),
            Middleware(Guard, settings=settings, open_paths=frozenset({*_PAGE, "/health", "/openapi.json"})),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _route(service: Service, path: str, operations: list[Operation]) -> Route:
    """One path with all its methods; answers are counted by it."""
    handlers: dict[str, Handler] = {operation.method: operation.handler for operation in operations}

    async def handle(request: Request) -> Response:
        status = "500"
        try:
            response = await handlers["GET" if request.method == "HEAD" else request.method](request)
            status = str(response.status_code)
            return response
        except ClientGoneError:
            status = "gone"
            return NoResponse()
        except ApiError as error:
            status = str(error.status)
            raise
        finally:
            service.metrics.requests.labels(path, status).inc()

    return Route(path, handle, methods=list(handlers))


def _page_file(read: Callable[[], str], media_type: str) -> Handler:
    content = read().encode()

    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


class _Endpoints:
    """The handlers: requests in, responses out."""

    def __init__(self, service: Service) -> None:
        self._service, self._traces = service, Traces(service)

    def operations(self) -> list[Operation]:
        """Every operation of the API."""
        s = schemas
        return [
            Operation(
                "POST", "/v1/completions", self.complete, "Write on", s.Completion, s.CompletionRequest, events=True
            ),
            Operation("GET", "/v1/models", self.models, "The models that are served", s.ModelList),
            Operation("GET", "/v1/models/{model}", self.one_model, "One model", s.ModelCard),
            Operation("POST", "/v1/states", self.save, "Save a state", s.State, s.StateRequest, status=201),
            Operation("GET", "/v1/states/{state}", self.state, "A saved state", s.State),
            Operation("POST", "/v1/states/{state}/fork", self.fork, "A second name for a state", s.State, status=201),
            Operation("DELETE", "/v1/states/{state}", self.delete, "Forget a state", s.DeletedState),
            Operation("POST", "/v1/next", self.next, "What may follow a text", s.Next, s.NextRequest),
            Operation("POST", "/v1/trace", self.trace, "Gates and cells while reading", s.Trace, s.TraceRequest),
            Operation("GET", "/health", self.health, "Is the server there?", s.Health),
            Operation("GET", "/metrics", self.metrics, "Counts for Prometheus", None),
        ]

    async def complete(self, request: Request) -> Response:
        asked = await self._parsed(request, schemas.CompletionRequest)
        answer = await completions.answer(self._service, asked)
        stall_timeout_s = self._service.settings.stall_timeout_s
        with ExitStack() as places:  # given back when all has been sent
            places.enter_context(self._service.kept(answer.kept_bytes))
            if asked.stream:
                places.enter_context(self._service.admitted(answer.streams, answer.held))
                return EventStream(answer.events(), places.pop_all(), stall_timeout_s)
            with self._service.admitted(answer.streams, answer.held):
                parts = await unless_gone(request.receive, answer.whole())
            return LongJSON(parts, places.pop_all(), stall_timeout_s)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._service.card()]})

    async def one_model(self, request: Request) -> Response:
        self._service.require_model(request.path_params["model"])
        return JSONResponse(self._service.card())

    async def save(self, request: Request) -> Response:
        asked = await self._parsed(request, schemas.StateRequest)
        return JSONResponse(await unless_gone(request.receive, state_routes.save(self._service, asked)), 201)

    async def state(self, request: Request) -> Response:
        return JSONResponse(state_routes.described(self._service.slots.find(request.path_params["state"])))

    async def fork(self, request: Request) -> Response:
        return JSONResponse(state_routes.fork(self._service, request.path_params["state"]), 201)

    async def delete(self, request: Request) -> Response:
        name = request.path_params["state"]
        self._service.slots.delete(name)
        return JSONResponse({"id": name, "object": "state.deleted", "deleted": True})

    async def next(self, request: Request) -> Response:
        asked = await self._parsed(request, schemas.NextRequest)
        return JSONResponse(await unless_gone(request.receive, following(self._service, asked)))

    async def trace(self, request: Request) -> Response:
        asked = await self._parsed(request, schemas.TraceRequest)
        return JSONResponse(await unless_gone(request.receive, self._traces.values(asked)))

    async def health(self, request: Request) -> Response:
        streams = self._service.engine.measure.streams
        return JSONResponse({"status": "ok", "model": self._service.model_id, "streams": streams})

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def _parsed(self, request: Request, kind: type[Any]) -> Any:
        return await parsed(request, kind, self._service.settings)
