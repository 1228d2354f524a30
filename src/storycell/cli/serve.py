"""`storycell serve [RUN]`: a page to generate with, and an API that OpenAI's clients speak."""

import argparse
import os
import sys

from storycell import api
from storycell.cli.display import say
from storycell.cli.flags import add_backend, add_writing_precision, print_json
from storycell.errors import SettingsError

_KEY_VARIABLE = "STORYCELL_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `serve`."""
    parser.add_argument("run", nargs="?", default="demo", metavar="RUN", help="a run folder, or demo (the default)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1: this machine)"
    )
    parser.add_argument("--port", type=int, default=8000, help="the port, 0 for any that is free (default 8000)")
    parser.add_argument(
        "--allow-anyone",
        action="store_true",
        help=f"listen beyond this machine although {_KEY_VARIABLE} holds no key that clients must send",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which clients may address the server, beside its own",
    )
    parser.add_argument("--max-streams", type=int, default=512, help="most texts generated at once (default 512)")
    add_backend(parser)
    add_writing_precision(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    try:
        from storycell.server.security import KEY_VARIABLE, ServerSettings
        from storycell.server.serve import serve
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"`storycell serve` needs the package {error.name}: install them all with `pip install 'storycell[serve]'`"
        ) from None
    settings = ServerSettings(
        host=arguments.host,
        api_key=os.environ.get(KEY_VARIABLE) or None,
        allow_anyone=arguments.allow_anyone,
        extra_hosts=frozenset(arguments.allow_host),
        max_streams=arguments.max_streams,
    )
    model = api.load(arguments.run, backend=arguments.backend, precision=arguments.precision)

    def ready(url: str) -> None:
        if arguments.json:
            print_json({"url": url, "model": model.name})
        say(f"{model.name} is at {url} (the page) and {url}/v1 (the API); Ctrl-C ends it")
        sys.stderr.flush()

    serve(model, settings, arguments.port, ready)
