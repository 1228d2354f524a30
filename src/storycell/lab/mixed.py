"""A run mixed with the n-gram of its training text, which is read again from where it was and counted anew.

Counting takes a second for a megabyte, so nothing of it is kept.
"""

import numpy as np

from storycell.api import Model
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError
from storycell.evaluation import mixing
from storycell.evaluation.ngram import NGram
from storycell.runs.text import Notice, read_training_text


def mix_with_ngram(model: Model, notice: Notice = lambda _: None) -> Model:
    """The model mixed with the n-gram of its training text, weights fitted on its end; `CorpusError` if gone."""
    model.vocab.refuse_pieces("the n-gram of a training text", "leave --with-ngram out")
    prepared = _read(model, notice)
    with prepared.ids_blamed():
        counted = mixing.count(prepared.train_ids, len(model.vocab))
    return Model(mixing.fit(model.network, counted), model.vocab, model.config, model.path)


def count_whole_training_text(model: Model, notice: Notice = lambda _: None) -> NGram:
    """The n-gram of all that a run was trained on; `CorpusError` where that cannot be read any more."""
    model.vocab.refuse_pieces("the n-gram of a training text", "leave --with-ngram out")
    prepared = _read(model, notice)
    with prepared.ids_blamed():
        return NGram.fit(np.asarray(prepared.train_ids[: mixing.MOST_COUNTED + 1]), len(model.vocab), mixing.ORDER)


def _read(model: Model, notice: Notice) -> Prepared:
    try:
        return read_training_text(model.config, model.vocab, notice, needs_valid=False)
    except CorpusError as error:
        raise CorpusError(
            f"the text that {model.path} was trained on is needed for its n-gram, and cannot be read: {error}; put the "
            "text back, or leave --with-ngram out"
        ) from None
