"""A corpus -> a folder of token files, which appears when it is complete.

In: a `Corpus`, the folder to make, the vocabulary or its kind. Out: the folder, open for reading.

The surprising decision: what is unfinished lies beside its place under a hidden name made from a hash of the text, so
that a preparation that was killed is found again by the next one of the same text, and by no other.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from storycell.corpus import Corpus
from storycell.errors import CorpusError, RunFolderError, SettingsError
from storycell.journal import Journal
from storycell.tokens import halves
from storycell.tokens.counting import survey
from storycell.tokens.folder import FILES, FORMAT, Prepared, open_prepared
from storycell.tokens.passes import Progress, silent, told
from storycell.vocab import Vocabulary


def prepare(
    corpus: Corpus,
    out: Path,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    digest: str = "",
    progress: Progress = silent,
) -> Prepared:
    """Write the token files of a corpus to the folder `out`, which appears when it is complete, and open them.

    `vocab` is a `Vocabulary`, or `characters` or `bytes` to find one. Without `valid`, a part of the corpus becomes the
    validation half. Raises `CorpusError` where the text cannot be read or holds nothing, `RunFolderError` where `out`
    holds something or cannot be written; either way nothing is left behind. One that is stopped or killed goes on, when
    it is called again, from where it was some seconds before, in the middle of a file too.
    """
    if isinstance(vocab, str) and vocab not in ("characters", "bytes"):
        raise SettingsError(f"vocab = {vocab!r}: it must be characters or bytes")
    _refuse_occupied(out)
    texts = [text for text in (corpus, valid) if text]
    stamps = [text.stamps() for text in texts]
    digest = digest or digest_of(corpus, valid, vocab, progress)
    with _unfinished(out, digest) as journal:
        partial = journal.folder
        vocab, found = _translated(corpus, valid, vocab, partial, progress, journal)
        for text, before in zip(texts, stamps, strict=True):
            if text.stamps() != before:  # the two passes, and the hash, have not seen the same
                raise CorpusError(f"{text.name} was changed while it was read; do it again when it stays as it is")
        (partial / "vocab.json").write_text(vocab.to_json(), encoding="ascii")
        about = {"format": FORMAT, "name": corpus.name, "digest": digest, "vocab_size": len(vocab)}
        about |= {name: half and asdict(half) for name, half in found.items()}
        (partial / "prepared.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        journal.finish(out, FILES)
    return open_prepared(out)


def _translated(
    corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> tuple[Vocabulary, halves.Halves]:
    """The vocabulary, and what is in the token files, which are complete."""
    vocab, stories, total = survey(corpus, vocab, progress, journal)
    if valid is not None:
        return vocab, halves.write_both(corpus, valid, vocab, folder, progress, journal)
    if stories > 1:
        return vocab, halves.write_split(corpus, vocab, folder, progress, journal)
    return vocab, halves.write_cut(corpus, vocab, total, folder, progress, journal)


@contextmanager
def _unfinished(out: Path, digest: str) -> Iterator[Journal]:
    """The folder that becomes `out`. Nothing is left of it after an error; after a stop or a kill it goes on later."""
    beside = out if out.exists() else out.parent
    new_folders = [folder for folder in (beside, *beside.parents) if not folder.exists()]
    stopped = False
    journal = None
    try:
        journal = Journal(beside, f".{out.name}", digest)
        yield journal
    except OSError as error:
        raise RunFolderError(
            f"{out} cannot be written: {error.strerror or error}; free space or name another folder"
        ) from None
    except (KeyboardInterrupt, SystemExit):
        stopped = journal is not None and journal.is_worth_keeping
        raise
    finally:
        if journal:
            journal.close(keep=stopped)
        for folder in new_folders:  # innermost first; those that hold something now stay
            with suppress(OSError):
                folder.rmdir()


def digest_of(corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, progress: Progress = silent) -> str:
    """A hash of all that a prepared folder depends on."""
    parts = [
        str(FORMAT),
        corpus.digest(told("hashing", corpus, progress)),
        valid.digest(told("hashing", valid, progress)) if valid else "",
        vocab if isinstance(vocab, str) else vocab.to_json(),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not _is_unfinished(p, out) for p in out.iterdir())):
        raise RunFolderError(f"{out} exists and is not empty; name another folder")


def _is_unfinished(path: Path, out: Path) -> bool:
    return path.name.startswith(f".{out.name}.") and path.suffix == ".part"
