"""`storycell sample [RUN] [PROMPT]`: text from a model, character by character."""

import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, backend_option, precision_option, print_json
from storycell.data import corpus
from storycell.data.vocab import SEPARATOR, plain_text
from storycell.errors import SettingsError
from storycell.generation.generate import CHARS, Unknown
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import gather
from storycell.training.display import say

_SHOWN = 300  # characters of a prompt in a notice


@click.command("sample", cls=Verb)
@click.argument("run", required=False, type=NAME, help="a run folder, or demo (the default)")
@click.argument(
    "prompt",
    required=False,
    help="what the text begins with, - from standard input (default: as the model's own texts begin)",
)
@click.option(
    "--prompt-file",
    type=NAME,
    metavar="FILE",
    help="the prompt from a file, without the last line end (- standard input)",
)
@click.option("--encoding", default="utf-8", help="encoding of the file or standard input (default utf-8)")
@click.option(
    "--chars", type=int, default=CHARS, help=f"most characters to generate (default {CHARS}); a story may end before"
)
@click.option("--temperature", type=float, default=0.8, help="above 1 bolder, below 1 safer, 0 greedy (default 0.8)")
@click.option("--top-k", type=int, metavar="K", help="choose among the K likeliest only")
@click.option("--top-p", type=float, metavar="P", help="choose among the likeliest that together have probability P")
@click.option("--min-p", type=float, metavar="P", help="choose among those at least P times as likely as the likeliest")
@click.option("--greedy", is_flag=True, help="always choose the likeliest")
@click.option("--seed", type=int, help="the same seed generates the same text (default: a new one)")
@click.option("--stop", multiple=True, metavar="TEXT", help="end before this text; may be repeated")
@click.option(
    "--count", type=int, default=1, help=f"generate several at once (default 1), separated by a line {SEPARATOR}"
)
@click.option(
    "--unknown",
    type=click.Choice(("error", "replace", "skip")),
    default="error",
    help="what to do with characters the model does not know (default error)",
)
@backend_option
@precision_option
def command(
    run: str | None,
    prompt: str | None,
    prompt_file: str | None,
    encoding: str,
    chars: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    greedy: bool,
    seed: int | None,
    stop: tuple[str, ...],
    count: int,
    unknown: Unknown,
    backend: str,
    precision: str,
    as_json: bool,
) -> None:
    """Write to standard output as the characters come, or a JSON object at the end."""
    name, given = _run_and_prompt(run, prompt)
    prompt = _prompt(given, prompt_file, encoding)
    sampling = Sampling(temperature, top_k, top_p, min_p, greedy)
    model = api.load(name, backend=backend, precision=precision)
    if prompt is None:
        prompt = model.default_prompt
    _, read = model.vocab.prompt_ids(prompt, unknown)
    if read != plain_text(prompt):
        shown = read if len(read) <= _SHOWN else f"{read[:_SHOWN]}…"
        say(f"characters the model does not know were left out or replaced: the prompt is now {shown!r}")
    seed = secrets.randbits(32) if seed is None else seed
    pieces: Iterable[tuple[int, str]] = model.streams(
        prompt,
        chars,
        count=count,
        sampling=sampling,
        seed=seed,
        stop=[_as_utf8(text) for text in stop],
        unknown=unknown,
    )
    live = not as_json and count == 1
    if live:
        _write(read)
        pieces = _print_pieces(pieces)
    began = time.monotonic()
    texts = [read + generated for generated in gather(pieces, count)]
    elapsed_s = time.monotonic() - began
    if as_json:
        generated = sum(len(text) - len(read) for text in texts)
        summary = {
            "text": texts[0],
            "chars": generated,
            "chars_per_s": round(generated / max(elapsed_s, 1e-9), 1),
            "seed": seed,
        }
        print_json(summary | ({"texts": texts} if count > 1 else {}))
    else:
        _write("\n" if live else f"\n{SEPARATOR}\n".join(texts) + "\n")


def _run_and_prompt(first: str | None, second: str | None) -> tuple[str, str | None]:
    """One word alone is a run if it names a folder, or looks like a path; otherwise it is the prompt, for `demo`."""
    # os.path.exists, because Path.exists raises where a prompt is longer than a file name may be
    if first is None or second is not None:
        return first or "demo", second
    looks_like_a_path = os.sep in first and not any(c.isspace() for c in first)
    is_path = first == "demo" or looks_like_a_path or (first != "" and os.path.exists(first))  # noqa: PTH110
    return (first, None) if is_path else ("demo", first)


def _prompt(given: str | None, file: str | None, encoding: str) -> str | None:
    """The prompt: an argument, or what a file or standard input holds; None where nothing says what it is."""
    if file is None and given != "-":
        return None if given is None else _as_utf8(given)
    if file is not None and given is not None:
        raise SettingsError(f"the prompt is in --prompt-file {file}, and also {given[:40]!r}; give one of the two")
    return corpus.read_text(file or "-", encoding).removesuffix("\n")


def _print_pieces(pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The same pieces, each written as it comes."""
    for k, piece in pieces:
        _write(piece)
        yield k, piece


def _as_utf8(argument: str) -> str:
    """An argument that was typed in UTF-8, also where the locale did not let Python decode it."""
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # other surrogates, as Windows may give; the vocabulary answers for them
        return argument


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
