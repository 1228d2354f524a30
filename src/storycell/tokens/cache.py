"""Prepared text in the user's cache: what has been prepared once is opened at once, by a hash of its content."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import platformdirs

from storycell.corpus import Corpus
from storycell.errors import RunFolderError
from storycell.tokens.folder import Prepared, open_prepared
from storycell.tokens.passes import Progress, silent
from storycell.tokens.preparing import identify, prepare
from storycell.vocab import Vocabulary


def cached(
    corpus: Corpus,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    progress: Progress = silent,
) -> Prepared:
    """As `prepare`, in the user's cache: what has been prepared once is opened at once, by a hash of its content."""
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
