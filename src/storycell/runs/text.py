"""The text of a run: reopened as its training read it, from the cache where it has been prepared.

The words that `config.json` records are absolute paths, globs, or the names of corpora, so a file of that name in the
working directory cannot take their place.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from storycell.data import corpus
from storycell.data.anonymise import Anonymiser
from storycell.data.corpus import Corpus
from storycell.data.prepare import prepare_cached
from storycell.data.resumable import Progress, no_progress
from storycell.data.story_pieces import pieces
from storycell.data.tokens import Prepared, as_blocks, is_prepared, open_prepared, split_stories
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.runs.folder import RunConfig, TextRecord
from storycell.types import LABEL_END, Ids

Notice = Callable[[str], None]  # takes a sentence for the user
Scored = Corpus | Prepared  # what is scored: a text as a whole, or what token files hold out


def open_text(record: TextRecord) -> tuple[Corpus, Corpus | None]:
    """The text to train on, and the one to validate on if there is one."""
    training = _open(record.words, "train", record, record.anonymise)
    valid = record.valid_words
    anonymise = training.anonymiser or record.anonymise
    return training, _open(valid, "valid", record, anonymise) if valid else None


def open_valid(record: TextRecord) -> Corpus | None:
    """The text that was given to validate on, if one was."""
    words = record.valid_words
    return _open(words, "valid", record, _anonymise(record)) if words else None


def _open(words: list[str], split: str, record: TextRecord, anonymise: bool | Anonymiser) -> Corpus:
    labels = [*record.labels]
    return corpus.open_corpus(
        words, record.encoding, split, record.column, record.lines, labels, anonymise=anonymise, recorded=True
    )


def _anonymise(record: TextRecord) -> bool | Anonymiser:
    """Whether names are replaced, as in the training text where that is still there: somebody keeps one name."""
    if not record.anonymise or "-" in record.words:
        return record.anonymise
    try:
        return _open(record.words, "train", record, True).anonymiser or True
    except CorpusError:
        return True


def prepared_folder(words: Sequence[str], *, recorded: bool = True) -> Path | None:
    """The folder that words name, if it is one of token files; in a record the name of a corpus is nothing else."""
    if len(words) == 1 and not (recorded and words[0] in corpus.NAMES) and is_prepared(words[0]):
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
    own = config.init is not None or vocab.kind == "pieces"
    prepared = read_text(record, vocab if own else None, progress)
    return prepared if prepared.vocab == vocab else read_text(record, vocab, progress)


def has_changed(prepared: Prepared, record: TextRecord) -> bool:
    """Whether what was read again is not what the record says that a run was trained on."""
    lengths = prepared.train.chars, prepared.valid.chars if prepared.valid else 0
    return prepared.digest != record.digest or lengths != (record.train_chars, record.valid_chars)


def open_words(
    words: Sequence[str],
    vocab: Vocabulary | None = None,
    *,
    encoding: str = "utf-8",
    column: str | None = None,
    record: TextRecord | None = None,
    progress: Progress = no_progress,
) -> Scored:
    """The text that a user names to score: of a prepared folder or the embedded stories what they hold out.

    The embedded stories come in the ids of `vocab`, or in characters without it. With the `record` of a run, files are
    read as the run's: line by line, with labels, in chats and mail with other names.
    """
    if (folder := prepared_folder(words, recorded=False)) is not None:
        return open_prepared(folder)
    how = _how(words, record)
    text = corpus.open_corpus(words, encoding, "valid", column, *how)
    if record is not None and record.anonymise and text.names_people:
        text = corpus.open_corpus(words, encoding, "valid", column, *how, anonymise=_anonymise(record))
    return prepare_cached(text, vocab=vocab or "characters", progress=progress) if text.is_embedded else text


def _how(words: Sequence[str], record: TextRecord | None) -> tuple[bool, list[str]]:
    """Whether files are read line by line, and with which labels."""
    if record is None or any(word in corpus.NAMES for word in words):
        return False, []
    return record.lines, [*record.labels]


def open_held_out(
    config: RunConfig, vocab: Vocabulary, notice: Notice = lambda _: None, progress: Progress = no_progress
) -> Scored:
    """What a run held out: the text that was given to validate on, or its token files, in its vocabulary.

    Raises `CorpusError` where it cannot be read any more; a text that has changed since is a notice.
    """
    if "-" in (config.text.valid_words or config.text.words):
        raise CorpusError("it was standard input, which is gone")
    if (valid := open_valid(config.text)) is not None:  # the text trained on need not be there
        return valid
    return _read_unchanged(config, vocab, notice, progress)


def open_valid_if_there(record: TextRecord, notice: Notice) -> Corpus | None:
    """As `open_valid`; a text that is gone is a notice that a part of the training text takes its place."""
    try:
        return open_valid(record)
    except CorpusError:
        notice(
            "what the run held out is not there; a twentieth of the text is the yardstick; --heldout FILE names another"
        )
        return None


def read_training_text(
    config: RunConfig,
    vocab: Vocabulary,
    notice: Notice = lambda _: None,
    progress: Progress = no_progress,
    *,
    needs_valid: bool = True,
) -> Prepared:
    """The token files of what a run was trained on, as `read_run_text` reads them.

    Where the text that it validated on is gone, a part of the training text takes its place, with a notice if the
    caller `needs_valid`.
    """
    record = config.text
    if record.valid_words and open_valid_if_there(record, notice if needs_valid else lambda _: None) is None:
        return read_text(record.model_copy(update={"valid_words": None}), vocab, progress)
    return _read_unchanged(config, vocab, notice, progress)


def read_in_characters(config: RunConfig, vocab: Vocabulary, notice: Notice = lambda _: None) -> Prepared:
    """The token files of a run's text in the text's own characters, whatever the ids of the run are."""
    prepared = _read_unchanged(config, vocab, notice, no_progress)
    if config.init is None and vocab.kind == "characters":
        return prepared
    return read_text(config.text.model_copy(update={"vocab": "characters"}))


MOST_VALUES = 200  # of a label that can be listed
_LABELLED = 1 << 22  # ids at the start of a text in which labels are looked for


def find_labels(ids: Ids, vocab: Vocabulary) -> dict[str, list[str]]:
    """The labels of a text and their values, the most frequent first; none of a label that has very many."""
    found: list[Counter[str]] = [Counter() for _ in vocab.labels]
    for story in split_stories(ids[:_LABELLED]) if vocab.labels else ():
        header = vocab.decode(story[1 : 1 + vocab.header_size(story[1:])].tolist())
        for counter, value in zip(found, header.split(LABEL_END), strict=False):
            counter[value] += 1
    return {
        name: [value for value, _ in counter.most_common()] if len(counter) <= MOST_VALUES else []
        for name, counter in zip(vocab.labels, found, strict=True)
    }


_TUNE = re.compile(r"X:[ \t]*\d+.*\n(?:[A-Za-z%].*\n)*?K:")
_LOOKED_AT = 20  # stories


def has_tunes(ids: Ids, vocab: Vocabulary) -> bool:
    """Whether the stories of a text are tunes in ABC, by the first ones."""
    stories = [story[1:4096] for story in islice(split_stories(ids[:_LABELLED]), _LOOKED_AT)]
    if any(len(story) and story.max() >= len(vocab) for story in stories):
        return False  # ids that are refused where they are read
    return bool(stories) and all(_TUNE.match(vocab.decode(story.tolist()).lstrip()) for story in stories)


def is_embedded(text: Scored) -> bool:
    """Whether it is the embedded stories, whose grammar knows the floor."""
    return text.is_embedded if isinstance(text, Corpus) else text.name == "stories"


def read_scored_blocks(text: Scored) -> Iterator[bytes]:
    """The blocks of a text that is scored, the byte 0xFF between stories; `CorpusError` where nothing is held out."""
    if isinstance(text, Corpus):
        return text.blocks()
    if text.valid_ids is None:
        raise CorpusError(f"{text.name} holds nothing out to score; name a text to score")
    return as_blocks(text.valid_ids, text.vocab)


def first_chars(text: Scored, chars: int) -> bytes:
    """The first `chars` characters of a text that is scored; whole stories, where it has several."""
    found: list[bytes] = []
    length = 0
    for begins, piece in pieces(read_scored_blocks(text)):
        if begins and found:
            found.append(BOUNDARY_BYTE)
        found.append(piece)
        length += len(piece)
        if length > 4 * chars:  # bytes; a character has at most four
            break
    stories_found = b"".join(found).split(BOUNDARY_BYTE)
    kept: list[str] = []
    for story in stories_found:
        characters = story.decode("utf-8", "ignore")
        left = chars - sum(len(k) + 1 for k in kept)
        if kept and len(characters) > left:
            break
        kept.append(characters[:left])
    return BOUNDARY_BYTE.join(story.encode() for story in kept)


def _read_unchanged(config: RunConfig, vocab: Vocabulary, notice: Notice, progress: Progress) -> Prepared:
    prepared = read_run_text(config, vocab, progress)
    if has_changed(prepared, config.text):
        words = " ".join(config.text.words)
        notice(
            f"{words} has changed since the training: what is held out now may be text that the model was trained on"
        )
    return prepared
