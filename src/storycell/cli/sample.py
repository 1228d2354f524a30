"""`storycell sample [RUN] [PROMPT]`: text from a model, character by character."""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator

from storycell import api
from storycell.cli.display import say
from storycell.cli.flags import add_backend, add_writing_precision, print_json
from storycell.data import corpus
from storycell.data.vocab import SEPARATOR, plain_text
from storycell.errors import SettingsError
from storycell.generation.generate import CHARS
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import gathered

_SHOWN = 300  # characters of a prompt in a notice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `sample`."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or demo (the default)")
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        help="what the text begins with, - from standard input (default: as the model's own texts begin)",
    )
    parser.add_argument(
        "--prompt-file", metavar="FILE", help="the prompt from a file, without the last line end (- standard input)"
    )
    parser.add_argument("--encoding", default="utf-8", help="encoding of the file or standard input (default utf-8)")
    parser.add_argument(
        "--chars",
        type=int,
        default=CHARS,
        help=f"most characters to generate (default {CHARS}); a story may end before",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="above 1 bolder, below 1 safer, 0 greedy (default 0.8)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="choose among the K likeliest only")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="choose among the likeliest that together have probability P"
    )
    parser.add_argument(
        "--min-p", type=float, metavar="P", help="choose among those at least P times as likely as the likeliest"
    )
    parser.add_argument("--greedy", action="store_true", help="always choose the likeliest")
    parser.add_argument("--seed", type=int, help="the same seed generates the same text (default: a new one)")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    parser.add_argument(
        "--count", type=int, default=1, help="generate several at once, separated by a line " + SEPARATOR
    )
    parser.add_argument(
        "--unknown",
        choices=("error", "replace", "skip"),
        default="error",
        help="what to do with characters the model does not know",
    )
    add_backend(parser)
    add_writing_precision(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write to standard output as the characters come, or a JSON object at the end."""
    name, given = _run_and_prompt(arguments.run, arguments.prompt)
    prompt = _prompt(given, arguments.prompt_file, arguments.encoding)
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p, arguments.min_p, arguments.greedy)
    model = api.load(name, backend=arguments.backend, precision=arguments.precision)
    if prompt is None:
        prompt = model.default_prompt
    _, read = model.vocab.prompt_ids(prompt, arguments.unknown)
    if read != plain_text(prompt):
        shown = read if len(read) <= _SHOWN else f"{read[:_SHOWN]}…"
        say(f"characters the model does not know were left out or replaced: the prompt is now {shown!r}")
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    pieces: Iterable[tuple[int, str]] = model.streams(
        prompt,
        arguments.chars,
        count=arguments.count,
        sampling=sampling,
        seed=seed,
        stop=[_as_utf8(stop) for stop in arguments.stop or ()],
        unknown=arguments.unknown,
    )
    live = not arguments.json and arguments.count == 1
    if live:
        _write(read)
        pieces = _shown(pieces)
    began = time.monotonic()
    texts = [read + written for written in gathered(pieces, arguments.count)]
    elapsed_s = time.monotonic() - began
    if arguments.json:
        written = sum(len(text) - len(read) for text in texts)
        summary = {
            "text": texts[0],
            "chars": written,
            "chars_per_s": round(written / max(elapsed_s, 1e-9), 1),
            "seed": seed,
        }
        print_json(summary | ({"texts": texts} if arguments.count > 1 else {}))
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


def _shown(pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
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
