"""HTTP around a model: the API that OpenAI's clients speak, and a page to generate with.

Needs the extra `storycell[serve]`; nothing else of the package imports it.
"""

from storycell.server.app import create_app
from storycell.server.security import KEY_VARIABLE, ServerSettings
from storycell.server.serve import serve

__all__ = ["KEY_VARIABLE", "ServerSettings", "create_app", "serve"]
