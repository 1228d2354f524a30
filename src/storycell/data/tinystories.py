"""The TinyStories data set (Eldan & Li 2023, arXiv:2305.07759), downloaded through `huggingface_hub` into its cache.

The splits are "train" (2.2 GB) and "valid" (22 MB). A file that is cached already is returned without any network call,
because the data set is frozen: nothing newer can be missed. A download that fails is a `CorpusError` of one sentence:
what, why, and what works instead.

The body is not fetched by `hf_hub_download`, which deletes a partial file when it is interrupted, so that every new
attempt at the 2.2 GB starts at zero, and which waits 23 seconds on a hub that is down. Here the hub's own `http_get`
writes the body to a part file next to its place in the cache, which the next call continues; once it is whole and its
checksum is right it takes its place, and `hf_hub_download` finds it there and links it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storycell.errors import CorpusError

REPOSITORY = "roneneldan/TinyStories"
KIND = "dataset"
FILES = {"train": "TinyStoriesV2-GPT4-train.txt", "valid": "TinyStoriesV2-GPT4-valid.txt"}
ANSWER_SECONDS = 5.0  # for every address of the hub, unless HF_HUB_ETAG_TIMEOUT says otherwise
PLAIN_ETAG = re.compile(r"[\w-]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (ImportError, "the package huggingface_hub cannot be imported"),
    (socket.gaierror, "the hub's address could not be looked up (is there a network connection?)"),
    (ConnectionRefusedError, "the hub refused the connection"),
    (ssl.SSLError, "no secure connection to the hub could be made"),
    (TimeoutError, "the hub did not answer in time"),
    (ConnectionResetError, "the connection to the hub was broken off"),
)
NAMED_REASONS = {  # by name, because the module they live in differs from one hub version to the next
    "OfflineModeIsEnabled": "the hub is switched off by HF_HUB_OFFLINE",
    "RemoteProtocolError": "the connection to the hub was broken off",
    "UnsupportedProtocol": "HF_ENDPOINT is not a web address",
}


def tinystories(split: str) -> Path:
    """Path of the text file of a split, "train" or "valid"; it is downloaded if it is not in the hub's cache yet."""
    if split not in FILES:
        raise CorpusError(f"TinyStories has no split {split!r}, only {' and '.join(map(repr, FILES))}")
    try:
        with _silence():
            return _cached(FILES[split]) or _downloaded(FILES[split])
    except CorpusError:
        raise
    except Exception as error:  # the transport has exceptions of its own, in a module that hub versions change
        raise _failure(FILES[split], _reason(error)) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the hub's warnings off standard error; its progress bar stays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import huggingface_hub.file_download  # noqa: F401 (sets the level of its logger, so it comes before ours)

        logger = logging.getLogger("huggingface_hub")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _cached(filename: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(REPOSITORY, filename, repo_type=KIND)
    return Path(path) if isinstance(path, str) else None


def _downloaded(filename: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # public, but not marked as such

    etag, size = _described(filename)
    folder = _cache_folder()
    blob, lock = folder / "blobs" / etag, folder.parent / ".locks" / folder.name / f"{etag}.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not blob.exists():
            _fetch(filename, blob, size)
    return Path(hf_hub_download(REPOSITORY, filename, repo_type=KIND, etag_timeout=_patience()))


def _described(filename: str) -> tuple[str, int | None]:
    """The file's ETag and its size in bytes, asked once: a hub that is down is noticed at once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    facts = get_hf_file_metadata(hf_hub_url(REPOSITORY, filename, repo_type=KIND), timeout=_patience())
    if facts.commit_hash is None or not PLAIN_ETAG.fullmatch(facts.etag or ""):
        raise _failure(filename, "what answered is not a hub (perhaps a proxy, or the login page of the network)")
    return str(facts.etag), facts.size


def _fetch(filename: str, blob: Path, size: int | None) -> None:
    """Bring the body into `blob`, going on from where an earlier call was interrupted."""
    part = blob.with_name(f"{blob.name}.storycell.incomplete")
    if size is not None and _length(part) > size:
        part.unlink()
    try:
        _append(filename, part, size)
    except Exception as error:
        raise _failure(filename, _reason(error), kept=_length(part)) from error
    if SHA256.fullmatch(blob.name) and _checksum(part) != blob.name:
        part.unlink()
        raise _failure(filename, "what arrived was damaged on the way (its checksum is wrong), so it was removed")
    part.replace(blob)


def _append(filename: str, part: Path, size: int | None) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # likewise

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a position in a compressed body means nothing
    url = hf_hub_url(REPOSITORY, filename, repo_type=KIND)
    with part.open("ab") as file:
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=headers,
            expected_size=size,
            displayed_filename=filename,
        )


def _failure(filename: str, reason: str, kept: int = 0) -> CorpusError:
    again = f"run it again to go on from the {kept / 1e6:.0f} MB that have arrived, or " if kept else ""
    return CorpusError(
        f"{filename} of TinyStories could not be downloaded because {reason}; {again}"
        "use the embedded corpus `stories`, which works offline, or pass a local copy as a file"
    )


def _reason(error: BaseException) -> str:
    """Why it failed, in plain words."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return "the hub does not have this file (status 404)" if status == 404 else f"the hub answered {status}"
    if type(error).__name__ in NAMED_REASONS:
        return NAMED_REASONS[type(error).__name__]
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return _disk_reason(error)
    for cause in _chain(error):
        for kind, words in REASONS:
            if isinstance(cause, kind):
                return words
    return f"the transfer failed ({' '.join(str(error).split()) or type(error).__name__})"


def _disk_reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full at {_cache_folder()}"
    return f"the folder {_cache_folder()} cannot be written ({error.strerror})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it: the transport wraps the operating system's error twice."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cache_folder() -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=REPOSITORY, repo_type=KIND)


def _patience() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT) if os.environ.get("HF_HUB_ETAG_TIMEOUT") else ANSWER_SECONDS


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
