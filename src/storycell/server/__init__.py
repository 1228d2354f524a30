"""HTTP around a `Model`: the API that OpenAI's clients speak, and a page to write with.

`serve(model, settings, port, on_ready)` runs it; `create_app(model, settings)` is the ASGI application by itself.
Needs the extra `storycell[serve]`; nothing else of the package imports it.
"""

from storycell.server.app import create_app
from storycell.server.listening import serve
from storycell.server.settings import KEY_VARIABLE, ServerSettings

__all__ = ["KEY_VARIABLE", "ServerSettings", "create_app", "serve"]
