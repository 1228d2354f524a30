"""A run mixed with the n-gram of its training text, which is read again from where it was and counted anew.

Counting takes a second for a megabyte, so nothing of it is kept.
"""

import hashlib

import numpy as np

from storycell.api import Model
from storycell.errors import CorpusError
from storycell.evaluation import mixing
from storycell.evaluation.mixing import Counted
from storycell.runs.text import Notice, read_training_text

DIGEST_BYTES = 8


def count_training_text(model: Model, notice: Notice = lambda _: None) -> Counted:
    """The n-gram of what a run was trained on; `CorpusError` where that cannot be read any more."""
    try:
        prepared = read_training_text(model.config, model.vocab, notice, needs_valid=False)
    except CorpusError as error:
        raise CorpusError(
            f"the text that {model.path} was trained on is needed for its n-gram, and cannot be read: {error}; leave "
            "--with-ngram out, or put the text back"
        ) from None
    with prepared.ids_blamed():
        return mixing.count(prepared.train_ids, len(model.vocab))


def mix_with_ngram(model: Model, notice: Notice = lambda _: None) -> Model:
    """The model mixed with that n-gram, its weights fitted on the end of the training text."""
    mixed = mixing.fit(model.network, count_training_text(model, notice))
    return Model(mixed, model.vocab, model.config, model.path)


def digest_of(counted: Counted) -> bytes:
    """What tells one n-gram from another, for a file that needs it."""
    content = hashlib.blake2b(digest_size=DIGEST_BYTES)
    content.update(f"{counted.ngram.V} {counted.ngram.order}".encode())
    content.update(np.ascontiguousarray(counted.ngram.keys, np.int64).data)
    return content.digest()
