"""A corpus -> a folder of token files, which appears when it is complete; and the user's cache of such folders.

Unfinished files lie beside their place under a hidden name made from a hash of the text, so a preparation that was
killed is found again by the next one of the same text, and by no other. In the cache prepared text is found by a hash
of its content.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import platformdirs

from storycell.data import splits
from storycell.data.corpus import Corpus
from storycell.data.resumable import Journal, Progress, no_progress, with_progress
from storycell.data.survey import survey
from storycell.data.tokens import FILES, FORMAT, Prepared, open_prepared
from storycell.data.vocab import Vocabulary, parse_kind
from storycell.errors import CorpusError, RunFolderError


def prepare(
    corpus: Corpus,
    out: Path,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    identity: "Identity | None" = None,
    progress: Progress = no_progress,
) -> Prepared:
    """Write the token files of a corpus to the folder `out`, which appears when it is complete, and open them.

    `vocab` is a `Vocabulary`, or `characters`, `bytes` or `pieces:2048` to find one. Without `valid`, a part of the
    corpus becomes the validation split. Raises `CorpusError` where the text cannot be read or holds nothing,
    `RunFolderError` where `out` holds something or cannot be written; either way nothing is left behind. One that is
    stopped or killed goes on, when it is called again, from where it was some seconds before, in the middle of a file
    too.

    `identity` is what `identify` said of the texts, where that is known; a text that has changed since is refused.
    """
    if isinstance(vocab, str):
        parse_kind(vocab)
    _refuse_occupied(out)
    _refuse_names(corpus, valid)
    identity = identity or identify(corpus, valid, vocab, progress)
    with _work_folder(out, identity.work) as journal:
        partial = journal.folder
        vocab, split = _translate(corpus, valid, vocab, partial, progress, journal)
        for text, before in zip((corpus, valid), identity.stamps, strict=True):
            if text and text.stamps() != before:  # the hash and the two passes have not seen the same
                raise CorpusError(f"{text.name} was changed while it was read; do it again when it stays as it is")
        (partial / "vocab.json").write_text(vocab.to_json(), encoding="ascii")
        about = {
            "format": FORMAT,
            "name": corpus.name,
            "digest": identity.digest,
            "vocab_size": len(vocab),
            **({"column": corpus.column} if corpus.column is not None else {}),
            **({"lines": True} if corpus.lines else {}),
            **({"anonymised": True} if corpus.anonymiser else {}),
            **asdict(split),
        }
        (partial / "prepared.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        journal.finish(out, FILES)
    return open_prepared(out)


def _translate(
    corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> tuple[Vocabulary, splits.Split]:
    """The vocabulary, and what is in the token files, which are complete."""
    vocab, found = survey(corpus, vocab, progress, journal)
    if valid is not None:
        return vocab, splits.write_both(corpus, valid, vocab, folder, progress, journal)
    return vocab, splits.write_split(corpus, vocab, found, folder, progress, journal)


@contextmanager
def _work_folder(out: Path, digest: str) -> Iterator[Journal]:
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


Stamps = list[tuple[int, ...]]


@dataclass(frozen=True)
class Identity:
    """Which text, vocabulary and split a prepared folder is made of."""

    digest: str  # of the text, the held-out text and the vocabulary
    stamps: tuple[Stamps, Stamps | None]  # of both texts, from before they were hashed

    @property
    def work(self) -> str:
        """A name for what this version makes of it, which an earlier one may have split in another way."""
        return hashlib.blake2b(f"{splits.RULE}\n{self.digest}".encode(), digest_size=16).hexdigest()


def identify(
    corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, progress: Progress = no_progress
) -> Identity:
    """Hash all that a prepared folder depends on.

    The stamps are taken first: a text that is changed while it is hashed, or after, is not what they say any more.
    """
    stamps = corpus.stamps(), None if valid is None else valid.stamps()
    parts = [
        str(FORMAT),
        corpus.digest(with_progress("hashing", corpus, progress)),
        valid.digest(with_progress("hashing", valid, progress)) if valid else "",
        vocab.to_json() if isinstance(vocab, Vocabulary) else ":".join(map(str, filter(None, parse_kind(vocab)))),
    ]
    return Identity(hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest(), stamps)


def _refuse_names(*texts: Corpus | None) -> None:
    for text in texts:
        if text is not None:
            text.refuse_names_in_words()


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not _is_unfinished(p, out) for p in out.iterdir())):
        raise RunFolderError(f"{out} exists and is not empty; name another folder")


def _is_unfinished(path: Path, out: Path) -> bool:
    return path.name.startswith(f".{out.name}.") and path.suffix == ".part"


def prepare_cached(
    corpus: Corpus,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    progress: Progress = no_progress,
) -> Prepared:
    """As `prepare`, in the user's cache: what has been prepared once is opened at once, by a hash of its content."""
    _refuse_names(corpus, valid)
    identity = identify(corpus, valid, vocab, progress)
    folder = cache_folder() / identity.work
    if there := _there(folder):
        return replace(there, name=corpus.name)
    shutil.rmtree(folder, ignore_errors=True)  # damaged
    try:
        return prepare(corpus, folder, valid=valid, vocab=vocab, identity=identity, progress=progress)
    except (OSError, RunFolderError) as error:
        if there := _there(folder):  # another process was faster
            return replace(there, name=corpus.name)
        said = f"{folder} cannot be used: {error.strerror}" if isinstance(error, OSError) else error
        raise RunFolderError(
            f"{said}; the environment variable STORYCELL_CACHE names the one where prepared texts are kept"
        ) from None


def _there(folder: Path) -> Prepared | None:
    try:
        return open_prepared(folder)
    except RunFolderError:
        return None


def cache_folder() -> Path:
    """Where prepared text is kept: `STORYCELL_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("STORYCELL_CACHE") or platformdirs.user_cache_path("storycell")) / "tokens"
