"""The TinyStories data set (Eldan & Li 2023, arXiv:2305.07759), downloaded through `huggingface_hub` into its cache.

The splits are "train" (2.2 GB) and "valid" (22 MB). A file that is cached already is returned without any network call,
because the data set is frozen: nothing newer can be missed. A download that fails is a `CorpusError` of one sentence:
what, why, and what works instead.

The body is not fetched by `hf_hub_download`, which deletes a partial file when it is interrupted, so that every new
attempt at the 2.2 GB starts at zero (https://github.com/huggingface/huggingface_hub/issues/4196), and which waits 23
seconds on a hub that is down. Here it is streamed, with the hub's headers, proxies and time limits, to a part file next
to its place in the cache, which the next call continues; once it is whole and its checksum is right it takes its place,
and `hf_hub_download` finds it there and links it. Only documented functions of the hub are used, and the documented
layout of its cache (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any, BinaryIO

from storycell import atomic, extras
from storycell.errors import CorpusError

REPOSITORY = "roneneldan/TinyStories"
KIND = "dataset"
FOLDER = "datasets--roneneldan--TinyStories"  # of the repository in the hub's cache
FILES = {"train": "TinyStoriesV2-GPT4-train.txt", "valid": "TinyStoriesV2-GPT4-valid.txt"}
ANSWER_SECONDS = 5.0  # for every address of the hub, unless HF_HUB_ETAG_TIMEOUT says otherwise
PIECE_BYTES = 1 << 20
PAUSE_S = 1.0  # before a broken transfer goes on
PLAIN_ETAG = re.compile(r"[\w-]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "the hub's address could not be looked up (is there a network connection?)"),
    (ConnectionRefusedError, "the hub refused the connection"),
    (TimeoutError, "the hub did not answer in time"),
    (ConnectionResetError, "the connection to the hub was broken off"),
)
NAMED_REASONS = {  # by name: the transport beneath the hub is another package from one version to the next
    "RemoteProtocolError": "the connection to the hub was broken off",
    "UnsupportedProtocol": "HF_ENDPOINT is not a web address",
}


def tinystories(split: str) -> Path:
    """Path of the text file of a split, "train" or "valid"; it is downloaded if it is not in the hub's cache yet."""
    if split not in FILES:
        raise CorpusError(f"TinyStories has no split {split!r}, only {' and '.join(map(repr, FILES))}")
    extras.require("huggingface_hub", "downloading TinyStories")
    try:
        with _silence():
            return _find_cached(FILES[split]) or _download(FILES[split])
    except CorpusError:
        raise
    except Exception as error:  # the transport has exceptions of its own, in a module that hub versions change
        raise _failure(FILES[split], failure_reason(error)) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the hub's warnings off standard error; its progress bar stays."""
    from huggingface_hub import logging

    level = logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity(CRITICAL)
        try:
            yield
        finally:
            logging.set_verbosity(level)


def _find_cached(filename: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(REPOSITORY, filename, repo_type=KIND)
    return Path(path) if isinstance(path, str) else None


def _download(filename: str) -> Path:
    from filelock import FileLock
    from huggingface_hub import hf_hub_download

    etag, size = _describe(filename)
    folder = _cache_folder()
    blob, lock = folder / "blobs" / etag, folder.parent / ".locks" / folder.name / f"{etag}.lock"  # the hub's own lock
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if not blob.exists():
            _fetch(filename, blob, size)
    return Path(hf_hub_download(REPOSITORY, filename, repo_type=KIND, etag_timeout=_patience()))


def _describe(filename: str) -> tuple[str, int | None]:
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
        atomic.remove(part)
    try:
        _append(filename, part, size)
    except Exception as error:
        raise _failure(filename, failure_reason(error), kept=_length(part)) from error
    if SHA256.fullmatch(blob.name) and _checksum(part) != blob.name:
        atomic.remove(part)
        raise _failure(filename, "what arrived was damaged on the way (its checksum is wrong), so it was removed")
    atomic.put_in_place(part, blob)


def _append(filename: str, part: Path, size: int | None) -> None:
    """Bring what is missing of the body; a connection that breaks off goes on as long as each brings something."""
    from huggingface_hub.utils import tqdm as bar_class  # type: ignore[attr-defined]  # public, but not marked as such

    tqdm: Any = bar_class
    progress = tqdm(desc=filename, total=size, initial=_length(part), unit="B", unit_scale=True, disable=None)
    with part.open("ab") as file, progress as bar:
        while (start := file.tell()) != size:
            try:
                _stream(filename, file, bar.update)
            except OSError:  # the disk's, or an answer that is an error
                raise
            except Exception:
                if file.tell() <= start:
                    raise
                time.sleep(PAUSE_S)
            else:
                if size is None or file.tell() <= start:
                    break  # all there is; the checksum says whether that is enough


def _stream(filename: str, file: BinaryIO, advance: Callable[[int], object]) -> None:
    """One request for the body from where the file ends, or all of it from a server that knows no ranges."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a position in a compressed body means nothing
    if start := file.tell():
        headers["Range"] = f"bytes={start}-"
    url, timeout = hf_hub_url(REPOSITORY, filename, repo_type=KIND), constants.HF_HUB_DOWNLOAD_TIMEOUT
    with http_stream_backoff(
        "GET", url, headers=headers, timeout=timeout, retry_on_exceptions=(), retry_on_status_codes=(429,)
    ) as response:
        hf_raise_for_status(response)
        if start and response.status_code == 200:
            advance(-start)
            file.seek(0)
            file.truncate()
        for piece in response.iter_bytes(PIECE_BYTES):
            file.write(piece)
            advance(len(piece))


def _failure(filename: str, reason: str, kept: int = 0) -> CorpusError:
    again = f"run it again to go on from the {kept / 1e6:.0f} MB that have arrived, or " if kept else ""
    return CorpusError(
        f"{filename} of TinyStories could not be downloaded because {reason}; {again}"
        "use the embedded corpus `stories`, which works offline, or pass a local copy as a file"
    )


def failure_reason(error: BaseException) -> str:
    """Why something that was asked of the hub failed, in plain words."""
    if isinstance(error, ImportError):
        return "the package huggingface_hub cannot be imported"
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return "the hub does not have this file (status 404)" if status == 404 else f"the hub answered {status}"
    if isinstance(error, OfflineModeIsEnabled):
        return "the hub is switched off by HF_HUB_OFFLINE"
    if type(error).__name__ in NAMED_REASONS:
        return NAMED_REASONS[type(error).__name__]
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return _disk_reason(error)
    import ssl  # an import that every start would pay for

    reasons: list[tuple[type[BaseException], str]] = [
        *REASONS,
        (ssl.SSLError, "no secure connection to the hub could be made"),
    ]
    for cause in _chain(error):
        for kind, words in reasons:
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

    return Path(constants.HF_HUB_CACHE) / FOLDER


def _patience() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT) if os.environ.get("HF_HUB_ETAG_TIMEOUT") else ANSWER_SECONDS


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
