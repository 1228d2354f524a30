"""`storycell push RUN USER/NAME`: a run's model on the Hugging Face hub, where `hf:USER/NAME` opens it again."""

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, print_json
from storycell.training.display import say


@click.command("push", cls=Verb)
@click.argument("run", type=NAME, help="a run folder, or demo")
@click.argument("name", type=NAME, help="where it goes: USER/NAME")
@click.option("--license", metavar="ID", help="of the text it learnt, as the hub names them, such as cc-by-4.0")
@click.option("--private", is_flag=True, help="nobody else sees it")
def command(run: str, name: str, license: str | None, private: bool, as_json: bool) -> None:
    """Check the run, then send its weights, vocabulary, settings and a card in one commit."""
    address = api.load(run).push(name, license=license, private=private)
    if as_json:
        print_json({"address": address, "name": f"hf:{name}"})
        return
    print(address)
    say(f"next: storycell sample hf:{name}")
