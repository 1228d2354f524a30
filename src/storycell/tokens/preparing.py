"""A corpus -> a folder of token files, which appears when it is complete.

In: a `Corpus`, the folder to make, the vocabulary or its kind. Out: the folder, open for reading.

What is unfinished lies beside its place under a hidden name made from a hash of the text, so
that a preparation that was killed is found again by the next one of the same text, and by no other.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from storycell.corpus import Corpus
from storycell.errors import CorpusError, RunFolderError, SettingsError
from storycell.journal import Journal
from storycell.tokens import halves
from storycell.tokens.counting import survey
from storycell.tokens.folder import FILES, FORMAT, Prepared, open_prepared
from storycell.tokens.passes import Progress, silent, told
from storycell.vocab import Vocabulary

Stamps = list[tuple[int, ...]]


def prepare(
    corpus: Corpus,
    out: Path,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    identity: "Identity | None" = None,
    progress: Progress = silent,
) -> Prepared:
    """Write the token files of a corpus to the folder `out`, which appears when it is complete, and open them.

    `vocab` is a `Vocabulary`, or `characters` or `bytes` to find one. Without `valid`, a part of the corpus becomes the
    validation half. Raises `CorpusError` where the text cannot be read or holds nothing, `RunFolderError` where `out`
    holds something or cannot be written; either way nothing is left behind. One that is stopped or killed goes on, when
    it is called again, from where it was some seconds before, in the middle of a file too.

    `identity` is what `identify` said of the texts, where that is known; a text that has changed since is refused.
    """
    if isinstance(vocab, str) and vocab not in ("characters", "bytes"):
        raise SettingsError(f"vocab = {vocab!r}: it must be characters or bytes")
    _refuse_occupied(out)
    identity = identity or identify(corpus, valid, vocab, progress)
    with _unfinished(out, identity.work) as journal:
        partial = journal.folder
        vocab, split = _translated(corpus, valid, vocab, partial, progress, journal)
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
            **asdict(split),
        }
        (partial / "prepared.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        journal.finish(out, FILES)
    return open_prepared(out)


def _translated(
    corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> tuple[Vocabulary, halves.Split]:
    """The vocabulary, and what is in the token files, which are complete."""
    vocab, found = survey(corpus, vocab, progress, journal)
    if valid is not None:
        return vocab, halves.write_both(corpus, valid, vocab, folder, progress, journal)
    return vocab, halves.write_split(corpus, vocab, found, folder, progress, journal)


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


@dataclass(frozen=True)
class Identity:
    """Which text, vocabulary and split a prepared folder is made of."""

    digest: str  # of the text, the held-out text and the vocabulary
    stamps: tuple[Stamps, Stamps | None]  # of both texts, from before they were hashed

    @property
    def work(self) -> str:
        """A name for what this version makes of it, which an earlier one may have split in another way."""
        return hashlib.blake2b(f"{halves.RULE}\n{self.digest}".encode(), digest_size=16).hexdigest()


def identify(corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary, progress: Progress = silent) -> Identity:
    """Hash all that a prepared folder depends on.

    The stamps are taken first: a text that is changed while it is hashed, or after, is not what they say any more.
    """
    stamps = corpus.stamps(), None if valid is None else valid.stamps()
    parts = [
        str(FORMAT),
        corpus.digest(told("hashing", corpus, progress)),
        valid.digest(told("hashing", valid, progress)) if valid else "",
        vocab if isinstance(vocab, str) else vocab.to_json(),
    ]
    return Identity(hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest(), stamps)


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not _is_unfinished(p, out) for p in out.iterdir())):
        raise RunFolderError(f"{out} exists and is not empty; name another folder")


def _is_unfinished(path: Path, out: Path) -> bool:
    return path.name.startswith(f".{out.name}.") and path.suffix == ".part"
