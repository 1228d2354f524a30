"""The text of a run: reopened as its training read it, from the cache where it has been prepared.

The words that `config.json` records are absolute paths, globs, or the names of corpora, so a file of that name in the
working directory cannot take their place.
"""

from pathlib import Path

from storycell.data import corpus
from storycell.data.corpus import Corpus
from storycell.data.prepare import prepare_cached
from storycell.data.resumable import Progress, no_progress
from storycell.data.tokens import Prepared, is_prepared, open_prepared
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.runs.folder import RunConfig, TextRecord


def open_text(record: TextRecord) -> tuple[Corpus, Corpus | None]:
    """The text to train on, and the one to validate on if there is one."""
    return corpus.open_corpus(record.words, record.encoding, column=record.column, recorded=True), open_valid(record)


def open_valid(record: TextRecord) -> Corpus | None:
    """The text that was given to validate on, if one was."""
    words = record.valid_words
    return corpus.open_corpus(words, record.encoding, "valid", record.column, recorded=True) if words else None


def prepared_folder(words: list[str]) -> Path | None:
    """The folder that the words of a record name, if it is one of token files."""
    if len(words) == 1 and words[0] not in corpus.NAMES and is_prepared(words[0]):
        return Path(words[0])
    return None


def read_text(record: TextRecord, vocab: Vocabulary | None = None, progress: Progress = no_progress) -> Prepared:
    """The token files of a text: those that it is already, or from the cache.

    With `vocab` in its ids; without, in those of the kind that the record names.
    """
    folder = prepared_folder(record.words)
    if folder is None:
        text, valid = open_text(record)
        return prepare_cached(text, valid=valid, vocab=vocab or record.vocab, progress=progress)
    prepared = open_prepared(folder)
    if vocab is not None and prepared.vocab != vocab:
        raise SettingsError(f"{folder} was prepared with another vocabulary than the model's; give the text itself")
    return prepared


def read_run_text(config: RunConfig, vocab: Vocabulary, progress: Progress = no_progress) -> Prepared:
    """The token files that a run was trained on, in its vocabulary.

    They have another digest than the record, or other lengths, where the text has changed since. Raises `CorpusError`
    where it cannot be read any more.
    """
    record = config.text
    if "-" in record.words:
        raise CorpusError("it was standard input, which is gone")
    prepared = read_text(record, vocab if config.init else None, progress)
    return prepared if prepared.vocab == vocab else read_text(record, vocab, progress)


def has_changed(prepared: Prepared, record: TextRecord) -> bool:
    """Whether what was read again is not what the record says that a run was trained on."""
    lengths = prepared.train.chars, prepared.valid.chars if prepared.valid else 0
    return prepared.digest != record.digest or lengths != (record.train_chars, record.valid_chars)
