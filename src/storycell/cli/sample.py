"""`storycell sample [RUN] [PROMPT]`: text from a model, character by character."""

import csv
import io
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from storycell import api
from storycell.atomic import write_atomically
from storycell.cli.flags import NAME, Verb, backend_option, precision_option, print_json, with_ngram_option
from storycell.data import corpus
from storycell.data.midi import midi_file
from storycell.data.vocab import SEPARATOR, plain_text
from storycell.errors import SettingsError
from storycell.extras import require
from storycell.generation.constraints import Rules
from storycell.generation.generate import CHARS, Unknown
from storycell.generation.items import Item, Items
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import gather
from storycell.lab.mixed import mix_with_ngram
from storycell.training.display import preparing, say

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
@click.option(
    "--steer",
    metavar="FILE:DOSE",
    help="add DOSE times the direction in FILE to what a layer shows, at every step (FILE alone: once)",
)
@click.option("--match", metavar="REGEX", help="only texts that a regular expression matches as a whole")
@click.option("--alphabet", metavar="CHARACTERS", help="only these characters")
@click.option("--starts-with", metavar="TEXT", help="only texts that begin so")
@click.option("--contains", metavar="TEXT", help="only texts with this in them")
@click.option("--min-chars", type=int, metavar="N", help="only texts of at least so many characters")
@click.option("--max-chars", type=int, metavar="N", help="only whole texts of at most so many characters")
@click.option(
    "--no-copy", type=int, metavar="N", help="never N characters in a row that stand in the run's training text"
)
@click.option(
    "--rhyme",
    metavar="SCHEME",
    help="a letter for each line, the same for those that rhyme, as AABB (English)",
)
@click.option("--rhyme-with", metavar="WORD", help="only texts whose last word rhymes with this one (English)")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="what a model with labels is asked for (info lists them)",
)
@click.option("--unique", is_flag=True, help="a list: each text once")
@click.option(
    "--new",
    type=float,
    is_flag=False,
    flag_value=1.0,
    metavar="[SHARE]",
    help="a list: none that stands in the training text; with a share such as 0.8 none more alike to a story of it",
)
@click.option("--filter", "wanted", metavar="REGEX", help="a list: only texts in which a regular expression is found")
@click.option("--rank", is_flag=True, help="a list: the likeliest first")
@click.option(
    "--format",
    "form",
    type=click.Choice(("txt", "csv", "jsonl", "midi")),
    help="a list: one text a line, a table, or JSON lines; or music, by a model of MIDI (default: by the ending of "
    "--out; else txt)",
)
@click.option("--out", type=NAME, metavar="FILE", help="a list: write it to a file")
@with_ngram_option
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
    steer: str | None,
    match: str | None,
    alphabet: str | None,
    starts_with: str | None,
    contains: str | None,
    min_chars: int | None,
    max_chars: int | None,
    no_copy: int | None,
    rhyme: str | None,
    rhyme_with: str | None,
    labels: tuple[str, ...],
    unique: bool,
    new: float | None,
    wanted: str | None,
    rank: bool,
    form: str | None,
    out: str | None,
    with_ngram: bool,
    backend: str,
    precision: str,
    as_json: bool,
) -> None:
    """Write to standard output as the characters come, or a JSON object at the end."""
    rules = Rules(match, alphabet, starts_with, contains, min_chars, max_chars, no_copy, rhyme, rhyme_with)
    asked = _labels(labels)
    name, given = _run_and_prompt(run, prompt)
    prompt = _prompt(given, prompt_file, encoding)
    sampling = Sampling(temperature, top_k, top_p, min_p, greedy)
    model = api.load(name, backend=backend, precision=precision)
    if steer is not None:
        model = model.steer(*_file_and_dose(steer))
    if with_ngram:
        say("counting the training text")
        model = mix_with_ngram(model, say)
    seed = secrets.randbits(32) if seed is None else seed
    if unique or new is not None or wanted is not None or rank or form or out:
        form = _list_form(form, out)
        with preparing("") as progress:
            found = model.items(
                count,
                rules=rules,
                labels=asked,
                chars=chars,
                prompt=prompt or "",
                sampling=sampling,
                seed=seed,
                unique=unique,
                new=new or False,
                filter=wanted,
                rank=rank,
                progress=progress,
            )
        _give_list(found, count, form, out, seed, as_json)
        return
    if prompt is None:
        prompt = "" if rules.shapes_text or asked else model.default_prompt
    _, read = model.vocab.prompt_ids(prompt, unknown)
    if read != plain_text(prompt):
        shown = read if len(read) <= _SHOWN else f"{read[:_SHOWN]}…"
        say(f"characters the model does not know were left out or replaced: the prompt is now {shown!r}")
    pieces = model.streams(
        prompt,
        chars,
        count=count,
        sampling=sampling,
        seed=seed,
        stop=[_as_utf8(text) for text in stop],
        unknown=unknown,
        rules=rules,
        labels=asked,
    )
    _give_texts(pieces, read, count, seed, as_json)


def _give_texts(pieces: Iterable[tuple[int, str]], read: str, count: int, seed: int, as_json: bool) -> None:
    """Write what follows the prompt that was `read`: one text as it comes, several when all have ended."""
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


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    """What `--label NAME=VALUE` said."""
    found = dict[str, str]()
    for one in map(_as_utf8, given):
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise SettingsError(f"--label {one}: it must be NAME=VALUE, as in --label genre=recipe")
        found[name] = value
    return found


def _list_form(form: str | None, out: str | None) -> str:
    """How a list is written; what cannot be written is refused before anything is generated."""
    form = form or _FORMS.get(Path(out or "").suffix.lower(), "txt")
    if form == "midi":
        if out is None:
            raise SettingsError("--format midi writes files; name one with --out tune.mid")
        require("symusic", "writing MIDI")
    return form


def _give_list(found: Items, count: int, form: str, out: str | None, seed: int, as_json: bool) -> None:
    """Write a list to where it is wanted, and say what was refused."""
    if form == "midi":
        _write_music(found.items, Path(out or ""))
    else:
        data = _as_table(found.items) if form == "csv" else _as_lines(found.items, form)
        if out is not None:
            _write_file(Path(out), data.encode())
            say(f"{out}: {len(found.items):,} texts")
        elif not as_json:
            _write(data)
    refused = {reason: found.refused[reason] for reason in sorted(found.refused)}
    if as_json:
        texts = [item.text for item in found.items]
        print_json(
            {
                "text": texts[0] if texts else "",
                "texts": texts,
                "chars": sum(map(len, texts)),
                "seed": seed,
                "tried": found.tried,
                "refused": refused,
                "refused_share": round(sum(refused.values()) / max(1, found.tried), 4),
            }
            | ({"out": out} if out else {})
        )
    said = ", ".join(f"{n:,} {_REASONS[reason]}" for reason, n in refused.items())
    if refused:
        say(f"{sum(refused.values()) / found.tried:.1%} of {found.tried:,} texts were refused: {said}")
    if len(found.items) < count:
        say(
            f"{len(found.items):,} of the {count:,} texts that were wanted were found among {found.tried:,}; ask for "
            "fewer, or raise the --temperature"
        )


_FORMS = {".csv": "csv", ".jsonl": "jsonl", ".mid": "midi", ".midi": "midi"}


def _write_file(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}; name another --out") from None


def _write_music(items: list[Item], out: Path) -> None:
    """A MIDI file for each text: OUT, or OUT with a number where they are several."""
    for k, item in enumerate(items, 1):
        path = out if len(items) == 1 else out.with_stem(f"{out.stem}-{k}")
        data, unknown = midi_file(item.text)
        _write_file(path, data)
        left_out = f"; {unknown:,} words of the text are no music, and were left out" if unknown else ""
        say(f"{path}: {len(data):,} bytes{left_out}")


_REASONS = {
    "alike": "too much like a story of the training text",
    "empty": "empty",
    "filter": "without what --filter asks for",
    "known": "in the training text",
    "repeated": "repeated",
    "stuck": "without a way on",
}


def _as_table(items: list[Item]) -> str:
    """CSV with the columns text, the labels, and nats where the list is ranked."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(items[0].labels) if items else []
    ranked = any(item.nats is not None for item in items)
    writer.writerow(["text", *names, *(["nats"] if ranked else [])])
    for item in items:
        writer.writerow([item.text, *item.labels.values(), *([round(item.nats or 0.0, 4)] if ranked else [])])
    return out.getvalue()


def _as_lines(items: list[Item], form: str) -> str:
    """JSON lines; or the texts, one a line, or with separator lines between them where one has several lines."""
    if form == "jsonl":
        rows = (
            {"text": item.text, **item.labels} | ({} if item.nats is None else {"nats": round(item.nats, 4)})
            for item in items
        )
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    texts = [item.text for item in items]
    if any("\n" in text.rstrip("\n") for text in texts):
        return f"{SEPARATOR}\n".join(text if text.endswith("\n") else text + "\n" for text in texts)
    return "".join(text.rstrip("\n") + "\n" for text in texts)


def _run_and_prompt(first: str | None, second: str | None) -> tuple[str, str | None]:
    """One word alone is a run if it names a folder, or looks like a path; otherwise it is the prompt, for `demo`."""
    # os.path.exists, because Path.exists raises where a prompt is longer than a file name may be
    if first is None or second is not None:
        return first or "demo", second
    looks_like_a_path = os.sep in first and not any(c.isspace() for c in first)
    is_name = first == "demo" or first.startswith("hf:") or looks_like_a_path
    is_path = is_name or (first != "" and os.path.exists(first))  # noqa: PTH110
    return (first, None) if is_path else ("demo", first)


def _file_and_dose(words: str) -> tuple[str, float]:
    """What `--steer` takes apart: `she.json:0.7`; a file alone has the dose 1."""
    file, colon, number = words.rpartition(":")
    try:
        return (file, float(number)) if colon else (words, 1.0)
    except ValueError:
        if os.path.exists(words):  # noqa: PTH110
            return words, 1.0
        raise SettingsError(f"--steer {words}: {number!r} is no dose; give FILE:DOSE, as in she.json:0.7") from None


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
