"""The loss of a model on a text, or on what a prepared text holds out, beside the floor where that is known."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from storycell.data.corpus import Corpus, text_corpus
from storycell.data.splits import write_tokens
from storycell.data.stories.corpus import log_probability
from storycell.data.tokens import Prepared, split_stories
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, RunFolderError, VocabularyError
from storycell.evaluation.evaluator import Evaluation, evaluate
from storycell.language_model import LanguageModel
from storycell.types import Ids


def evaluate_text(
    lm: LanguageModel, vocab: Vocabulary, text: str | Corpus, *, windows: int | None = None
) -> Evaluation:
    """The loss on a text; `windows=T` scores zero-state windows of T characters."""
    corpus = text_corpus(text) if isinstance(text, str) else text
    with _temporary_folder() as folder:
        split = write_tokens(corpus, vocab, folder / "text.tokens")
        ids = split.open(folder / "text.tokens", vocab)
        try:
            result = evaluate(lm, ids, vocab, windows=windows, utf8_bytes=split.utf8_bytes)
            return _add_floor(result, ids, vocab) if corpus.is_embedded else result
        finally:
            del ids  # and with it the mapping: Windows removes no file that is mapped


def evaluate_split(
    lm: LanguageModel, vocab: Vocabulary, prepared: Prepared, *, windows: int | None = None
) -> Evaluation:
    """The loss on the validation split of a prepared text, whose vocabulary must be `vocab`."""
    ids = prepared.valid_ids
    if ids is None or prepared.valid is None:
        raise CorpusError(f"{prepared.name} holds nothing out to score; name a text to score")
    if prepared.vocab != vocab:
        raise VocabularyError(
            f"{prepared.folder} was prepared with another vocabulary than the model's; give the text itself"
        )
    with prepared.ids_blamed():
        result = evaluate(lm, ids, vocab, windows=windows, utf8_bytes=prepared.valid.utf8_bytes)
    return _add_floor(result, ids, vocab) if prepared.name == "stories" else result


def encode_text(text: str | Corpus, vocab: Vocabulary) -> Ids:
    """The ids of a text as a token file would hold them, `0 s1 … sn 0 s1 … sm`."""
    with _temporary_folder() as folder:
        path = folder / "text.tokens"
        corpus = text_corpus(text) if isinstance(text, str) else text
        return write_tokens(corpus, vocab, path).open(path, vocab)[:].copy()


def _add_floor(result: Evaluation, ids: Ids, vocab: Vocabulary) -> Evaluation:
    """Add what the grammar itself would have paid, if it can generate every story."""
    texts = (vocab.decode(story[1:]) for story in split_stories(ids))
    floor = -sum(log_probability(text) for text in texts) / result.chars
    return replace(result, floor_nats=floor) if floor < float("inf") and result.windows is None else result


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for token files, gone at the end; `RunFolderError` where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="storycell-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise RunFolderError(
            f"the folder for temporary files cannot be written: {error.strerror or error}; free space there, or name "
            "another one in the environment variable TMPDIR"
        ) from None
