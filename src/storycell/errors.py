"""The tree of errors that a user can see.

Every message is one or two sentences: what is wrong, where, and what to do. The command line prints the message and
exits with the class's `exit_code`; from Python they are ordinary exceptions. Anything that is not a `StorycellError`
is a bug in storycell, and is allowed to look like one.
"""


class StorycellError(Exception):
    """Root of every error that storycell raises on purpose."""

    exit_code = 1


class SettingsError(StorycellError):
    """A setting, flag or argument has a value that makes no sense."""

    exit_code = 2


class CorpusError(StorycellError):
    """A text cannot be found, read, decoded or downloaded, or holds nothing to learn from."""


class VocabularyError(StorycellError):
    """A text and a vocabulary do not fit together."""


class UnknownCharacterError(VocabularyError):
    """A prompt holds characters that the model has never seen."""


class RunFolderError(StorycellError):
    """A run folder is missing, occupied, damaged, or cannot be written."""


class ResumeError(StorycellError):
    """A run cannot go on as asked: another text, or settings that cannot be honoured."""


class TrainingError(StorycellError):
    """Training cannot go on: the loss is not finite, however often it is taken back."""


class ProcessError(StorycellError):
    """Another process of the same training is gone, or trains something else."""


class BackendError(StorycellError):
    """The backend that was asked for cannot compute this model here."""


class MissingExtraError(StorycellError):
    """What was asked for needs a package that is not installed."""


class NotFiniteError(StorycellError):
    """A model computes numbers that are not finite, from which nothing can be drawn."""


class ExportError(StorycellError):
    """A model cannot be exported as asked, or the file that was written is not the model."""


class CodecError(StorycellError):
    """A file cannot be compressed, or what was compressed is damaged or belongs to another model or machine."""
