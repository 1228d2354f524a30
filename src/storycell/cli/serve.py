"""`storycell serve [RUN]`: a page to generate with, and an API that OpenAI's clients speak."""

import os
import sys

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, backend_option, precision_option, print_json, run_argument
from storycell.errors import SettingsError
from storycell.generation.transcript import speakers_of
from storycell.training.display import say

_KEY_VARIABLE = "STORYCELL_API_KEY"


@click.command("serve", cls=Verb)
@run_argument
@click.option("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1: this machine)")
@click.option("--port", type=int, default=8000, help="the port, 0 for any that is free (default 8000)")
@click.option(
    "--allow-anyone",
    is_flag=True,
    help=f"listen beyond this machine although {_KEY_VARIABLE} holds no key that clients must send",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="a name under which clients may address the server, beside its own; may be repeated",
)
@click.option(
    "--speakers",
    metavar="USER:ANSWERER",
    help="for a model of transcripts: whose lines a chat's user writes, and whose lines are the answers",
)
@click.option("--steer", type=NAME, metavar="FILE", help="let requests add a direction that `Direction.save` wrote")
@click.option("--max-streams", type=int, default=512, help="most texts generated at once (default 512)")
@backend_option
@precision_option
def command(
    run: str,
    host: str,
    port: int,
    allow_anyone: bool,
    allow_host: tuple[str, ...],
    speakers: str | None,
    steer: str | None,
    max_streams: int,
    backend: str,
    precision: str,
    as_json: bool,
) -> None:
    """Serve until Ctrl-C."""
    try:
        from storycell.server.security import KEY_VARIABLE, ServerSettings
        from storycell.server.serve import serve
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"`storycell serve` needs the package {error.name}: install them all with `pip install 'storycell[serve]'`"
        ) from None
    settings = ServerSettings(
        host=host,
        api_key=os.environ.get(KEY_VARIABLE) or None,
        allow_anyone=allow_anyone,
        extra_hosts=frozenset(allow_host),
        max_streams=max_streams,
        speakers=None if speakers is None else speakers_of(speakers),
        steer=steer,
    )
    model = api.load(run, backend=backend, precision=precision)

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "model": model.name})
        say(f"{model.name} is at {url} (the page) and {url}/v1 (the API); Ctrl-C ends it")
        sys.stderr.flush()

    serve(model, settings, port, ready)
