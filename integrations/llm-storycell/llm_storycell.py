"""storycell's models as models of `llm`: `storycell/demo`, the runs of a folder `runs/`, and those that were added.

Nothing of storycell is imported before one of them is asked, since `llm` registers all models for every command.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import llm
from pydantic import Field

if TYPE_CHECKING:
    from storycell import Model

PREFIX = "storycell/"


def added_file() -> Path:
    """Where the models that were added are listed, {name: run folder or hf:USER/NAME}."""
    return llm.user_dir() / "storycell.json"


def added() -> dict[str, str]:
    """The models that were added."""
    try:
        found = json.loads(added_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.ClickException(f"{added_file()} is no JSON object; correct or remove it")
    return {str(name): str(run) for name, run in found.items()}


def known() -> dict[str, str]:
    """All models by name; one that was added goes before a run of the same name in `runs/`."""
    runs = {path.parent.name: str(path.parent) for path in sorted(Path("runs").glob("*/model.safetensors"))}
    return {"demo": "demo"} | runs | added()


class Options(llm.Options):
    """What can be said with `-o`."""

    temperature: float | None = Field(None, ge=0, le=100, description="above 1 bolder, below 1 safer, 0 greedy (0.8)")
    top_k: int | None = Field(None, ge=1, description="only the k likeliest")
    top_p: float | None = Field(None, gt=0, le=1, description="only the likeliest that together have this probability")
    min_p: float | None = Field(None, ge=0, le=1, description="only those this share as likely as the likeliest")
    chars: int | None = Field(None, ge=1, description="most characters to generate (500)")
    seed: int | None = Field(None, description="the same seed generates the same text")
    stop: str | None = Field(None, min_length=1, description="the text ends before this")
    match: str | None = Field(None, description="a regular expression that prompt and answer together match")
    labels: str | None = Field(None, description="of a model with labels: school=ice,level=1")
    unknown: Literal["error", "replace", "skip"] = Field("error", description="what becomes of unknown characters")
    precision: Literal["fp32", "bf16", "int8"] = Field("fp32", description="bf16 and int8 generate faster")
    speakers: str | None = Field(None, description="of a model of transcripts: who asks and who answers, as in Ann:Ben")


class StorycellModel(llm.Model):
    """One run."""

    can_stream = True

    class Options(Options):
        """As `Options`; `llm` looks for them here."""

    def __init__(self, name: str, run: str) -> None:
        self.model_id, self._run = PREFIX + name, run
        self._loaded: dict[str, Model] = {}  # by precision

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
        """The characters that follow, as they come."""
        from storycell.errors import StorycellError

        try:
            yield from self._generate(prompt, response)
        except StorycellError as error:
            raise llm.ModelError(str(error)) from None

    def _generate(self, prompt: Any, response: Any) -> Iterator[str]:
        from storycell import load
        from storycell.generation.constraints import Rules
        from storycell.generation.sampler import Sampling
        from storycell.generation.transcript import Message, speakers_of, transcript

        asked: Options = prompt.options
        model = self._loaded.get(asked.precision)
        if model is None:
            model = self._loaded[asked.precision] = load(self._run, precision=asked.precision)
        said = [
            Message(message.role, "".join(part.text for part in message.parts if hasattr(part, "text")))
            for message in prompt.messages
        ]
        text, stops = transcript(said, None if asked.speakers is None else speakers_of(asked.speakers))
        given = {name: getattr(asked, name) for name in ("temperature", "top_k", "top_p", "min_p")}
        pieces = model.stream(
            text,
            **({} if asked.chars is None else {"chars": asked.chars}),
            sampling=Sampling(**{name: value for name, value in given.items() if value is not None}),
            seed=asked.seed,
            stop=[*([] if asked.stop is None else [asked.stop]), *stops],
            unknown=asked.unknown,
            rules=None if asked.match is None else Rules(match=asked.match),
            labels=_labels(asked.labels),
        )
        written = 0
        for piece in pieces:
            written += len(piece)
            yield piece
        response.set_usage(input=len(text), output=written)


def _labels(text: str | None) -> dict[str, str]:
    from storycell.errors import SettingsError

    labels = {}
    for one in text.split(",") if text else []:
        name, equals, value = one.partition("=")
        if not equals:
            raise SettingsError(f"labels {text!r}: give names and values, as in school=ice,level=1")
        labels[name.strip()] = value.strip()
    return labels


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """All models that are known."""
    for name, run in known().items():
        register(StorycellModel(name, run))


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """`llm storycell add` and `remove`."""

    @cli.group(name="storycell")
    def storycell() -> None:
        """Run folders and models on the hub as models of llm."""

    @storycell.command()
    @click.argument("run")
    @click.argument("name", required=False)
    def add(run: str, name: str | None) -> None:
        """Give RUN, a run folder or hf:USER/NAME, a NAME: llm -m storycell/NAME."""
        from storycell import StorycellError, load

        place = run if run.startswith("hf:") else str(Path(run).expanduser().resolve())
        name = name or (place.rstrip("/").rpartition("/")[2] if run.startswith("hf:") else Path(place).name)
        try:
            load(place)
        except StorycellError as error:
            raise click.ClickException(str(error)) from None
        _write({**added(), name: place})
        click.echo(f"llm -m {PREFIX}{name}")

    @storycell.command()
    @click.argument("name")
    def remove(name: str) -> None:
        """Forget a model that was added; its run stays where it is."""
        rest = added()
        if rest.pop(name.removeprefix(PREFIX), None) is None:
            raise click.ClickException(f"no model {name} was added; there are {', '.join(rest) or 'none'}")
        _write(rest)


def _write(models: dict[str, str]) -> None:
    added_file().write_text(json.dumps(models, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
