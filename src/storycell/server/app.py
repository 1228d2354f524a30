"""The HTTP application: which path does what.

`create_app(model, settings)` gives a FastAPI application, which makes the OpenAPI document out of the handlers' types.
No part of a request becomes a path of the file system: the page's few files are read once, at the start.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware

import storycell
from storycell.api import Model
from storycell.export import trainer
from storycell.naming import show_name
from storycell.server import chat, completions, schemas, state_routes
from storycell.server.errors import HANDLERS, ApiError, explain
from storycell.server.http import ClientGoneError, Drain, EventStream, LongJSON, NoResponse, read_json, unless_gone
from storycell.server.inspect_routes import Traces, following, step
from storycell.server.security import Guard, ServerSettings
from storycell.server.service import CONTENT_TYPE, Service
from storycell.web import theme

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
_STYLES = ("web/story.css", "web/generate.css", "web/step.css", "web/tunes.css", "server/page/page.css")
_PAGE: dict[str, tuple[Callable[[], str], str]] = {
    "/": (lambda: theme.read("server/page/index.html"), "text/html; charset=utf-8"),
    "/page.css": (lambda: theme.css(*_STYLES), "text/css; charset=utf-8"),
    "/page.js": (lambda: theme.script("server/page/page.js"), "text/javascript; charset=utf-8"),
    "/tunes.js": (theme.tunes_script, "text/javascript; charset=utf-8"),  # the page asks for it where it has tunes
    "/icon.svg": (lambda: theme.read("server/page/icon.svg"), "image/svg+xml"),
}
LEARN = "/learn"  # a page that trains in the browser
Handler = Callable[[Request], Awaitable[Response]]
Name = Annotated[str, Path(min_length=1)]


def create_app(model: Model, settings: ServerSettings) -> FastAPI:
    """The page and the API around a model; the engine runs while the application does."""
    service = Service(model, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start(asyncio.get_running_loop())
        yield
        service.engine.stop()

    app = FastAPI(
        title="storycell",
        version=storycell.__version__,
        description=f"Writes with the model {service.model_id}. A token is a character.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(Drain, patience_s=settings.request_timeout_s),
            Middleware(Guard, settings=settings, open_paths=frozenset({*_PAGE, LEARN, "/health", "/openapi.json"})),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.route_class = BoundedRoute
    app.state.service = service
    for path, file in _PAGE.items():
        app.add_route(path, _page_file(*file), methods=["GET"], include_in_schema=False)
    # The weights of a model that a key protects are not given away.
    app.add_route(LEARN, _learning_page(None if settings.api_key else model), methods=["GET"], include_in_schema=False)
    _Endpoints(service).add_to(app, has_key=settings.api_key is not None)
    return app


class BoundedRoute(APIRoute):
    """Reads a body in time and within bounds before FastAPI sees it, and counts the answers by their path."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """FastAPI's own handler, with that around it."""
        handle, path, takes_body = super().get_route_handler(), self.path, self.body_field is not None

        async def handle_bounded(request: Request) -> Response:
            service: Service = request.app.state.service
            status = "500"
            try:
                if takes_body:
                    await read_json(request, service.settings)
                response: Response = await handle(request)
                status = str(response.status_code)
                return response
            except ClientGoneError:
                status = "gone"
                return NoResponse()
            except (ApiError, RequestValidationError) as error:
                told = error if isinstance(error, ApiError) else explain(error)
                status = str(told.status)
                raise told from None
            finally:
                service.metrics.requests.labels(path, status).inc()

        return handle_bounded


def _page_file(read: Callable[[], str], media_type: str) -> Handler:
    content = read().encode()

    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


def _learning_page(model: Model | None) -> Handler:
    """The page that `storycell export --trainer` writes, made when it is first asked for."""

    @cache
    def content() -> bytes:
        if model is not None and trainer.can_start_from(model.network, model.vocab):
            return trainer.write(model.network, model.vocab, show_name(model.name)).encode()
        return trainer.write().encode()

    async def serve(request: Request) -> Response:
        policy = {"Content-Security-Policy": f"{trainer.policy()}; frame-ancestors 'none'"}
        return Response(await asyncio.to_thread(content), media_type="text/html; charset=utf-8", headers=policy)

    return serve


class _Endpoints:
    """The handlers: requests in, what their answers are made of out."""

    def __init__(self, service: Service) -> None:
        self._service, self._traces = service, Traces(service)

    def add_to(self, app: FastAPI, has_key: bool) -> None:
        """Every operation of the API."""
        errors: dict[int | str, dict[str, Any]] = {
            status: {"model": schemas.Error, "description": said} for status, said in _ERRORS.items()
        }
        errors["default"] = {"model": schemas.Error, "description": "An error"}
        key = [Security(HTTPBearer(scheme_name="key", auto_error=False))] if has_key else []  # `Guard` checks it

        def add(method: str, path: str, endpoint: Callable[..., Any], summary: str, **more: Any) -> None:
            more = {"response_description": "As asked", "responses": errors, **more}
            more["dependencies"] = [] if path == "/health" else key
            app.add_api_route(path, endpoint, methods=[method], summary=summary, **more)
            if method == "GET":
                app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)

        events = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}
        add(
            "POST",
            "/v1/completions",
            self.complete,
            "Write on",
            response_model=schemas.Completion,
            responses=errors | events,
        )
        add(
            "POST",
            "/v1/chat/completions",
            self.chat,
            "Answer",
            response_model=schemas.ChatCompletion,
            responses=errors | events,
        )
        add("GET", "/v1/models", self.models, "The models that are served", response_model=schemas.ModelList)
        add("GET", "/v1/models/{model}", self.one_model, "One model", response_model=schemas.ModelCard)
        add("POST", "/v1/states", self.save, "Save a state", response_model=schemas.State, status_code=201)
        add("GET", "/v1/states/{state}", self.state, "A saved state", response_model=schemas.State)
        add(
            "POST",
            "/v1/states/{state}/fork",
            self.fork,
            "A second name for a state",
            response_model=schemas.State,
            status_code=201,
        )
        add("DELETE", "/v1/states/{state}", self.delete, "Forget a state", response_model=schemas.DeletedState)
        add("POST", "/v1/next", self.next, "What may follow a text", response_model=schemas.Next)
        add("POST", "/v1/trace", self.trace, "Gates and cells while reading", response_model=schemas.Trace)
        add("POST", "/v1/step", self.step, "One step of one unit", response_model=schemas.Step)
        add("GET", "/health", self.health, "Is the server there?", response_model=schemas.Health)
        text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
        add(
            "GET",
            "/metrics",
            self.metrics,
            "Counts for Prometheus",
            response_class=Response,
            responses=errors | text,
        )

    async def complete(self, request: Request, asked: schemas.CompletionRequest) -> Response:
        return await self._send(request, await completions.answer(self._service, asked))

    async def chat(self, request: Request, asked: schemas.ChatRequest) -> Response:
        return await self._send(request, await chat.answer_chat(self._service, asked))

    async def _send(self, request: Request, answer: completions.Answer) -> Response:
        stall_timeout_s = self._service.settings.stall_timeout_s
        with ExitStack() as places:  # given back when all has been sent
            places.enter_context(self._service.kept(answer.kept_bytes))
            if answer.asked.stream:
                places.enter_context(self._service.admitted(answer.streams, answer.is_alone))
                return EventStream(answer.events(), places.pop_all(), stall_timeout_s)
            with self._service.admitted(answer.streams, answer.is_alone):
                parts = await unless_gone(request.receive, answer.whole())
            return LongJSON(parts, places.pop_all(), stall_timeout_s)

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._service.card()]}

    async def one_model(self, model: Name) -> dict[str, Any]:
        self._service.require_model(model)
        return self._service.card()

    async def save(self, request: Request, asked: schemas.StateRequest) -> dict[str, Any]:
        return await unless_gone(request.receive, state_routes.save(self._service, asked))

    async def state(self, state: Name) -> dict[str, Any]:
        return state_routes.describe(self._service.slots.find(state))

    async def fork(self, state: Name) -> dict[str, Any]:
        return state_routes.fork(self._service, state)

    async def delete(self, state: Name) -> dict[str, Any]:
        self._service.slots.delete(state)
        return {"id": state, "object": "state.deleted", "deleted": True}

    async def next(self, request: Request, asked: schemas.NextRequest) -> dict[str, Any]:
        return await unless_gone(request.receive, following(self._service, asked))

    async def trace(self, request: Request, asked: schemas.TraceRequest) -> dict[str, Any]:
        return await unless_gone(request.receive, self._traces.values(asked))

    async def step(self, request: Request, asked: schemas.StepRequest) -> dict[str, Any]:
        return await unless_gone(request.receive, step(self._service, asked))

    async def health(self) -> dict[str, Any]:
        return {"status": "ok", "model": self._service.model_id, "streams": self._service.engine.measure.streams}

    async def metrics(self) -> Response:
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)
