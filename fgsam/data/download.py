"""One download: an interrupted one goes on where it ended, in this process or in a later one."""

from __future__ import annotations

import json
import logging
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError

from fgsam.files import write_atomically

TIMEOUT_SECONDS = 30.0
"""How long a server may keep silent."""

CHUNK = 2**18

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int | None], None]
"""Told the name of what arrives, how many bytes are there, and of how many if that is known."""


def is_address(source: str) -> bool:
    """Whether this is an http or https address, no path."""
    return source.startswith(("http://", "https://"))


def size_at(url: str, by_hand: str) -> int | None:
    """Return how many bytes there are to fetch, or None if the server does not say.

    Args:
        url: An http or https address.
        by_hand: Where a user may put the file instead, for the message.

    Raises:
        OSError: If the server cannot be reached.
    """
    try:
        with urllib.request.urlopen(_request(url, method="HEAD"), timeout=TIMEOUT_SECONDS) as response:
            return _number(response.headers.get("Content-Length"))
    except HTTPError:  # some servers refuse the question but give the file
        return None
    except (OSError, HTTPException) as error:
        raise _unreachable(url, error, by_hand) from error


def download(url: str, part: Path, report: Report, by_hand: str) -> None:
    """Complete a part: append what is missing, or begin again where the server's file is another one by now.

    Args:
        url: An http or https address.
        part: Where the bytes gather; beside it stands a note that says of which file, in which version, they are.
        report: Told about every piece that arrives.
        by_hand: Where a user may put the file instead, for the message.

    Raises:
        OSError: If the server cannot be reached any more, or the part cannot be written.
    """
    while True:
        before = _size(part)
        try:
            return _receive(url, part, report)
        except _DiskError:
            raise
        except (OSError, HTTPException) as error:
            # A range that the server cannot serve: the file has become shorter.
            is_outdated = isinstance(error, HTTPError) and error.code == 416 and before > 0
            if is_outdated:
                forget(part)
            elif _size(part) <= before:  # as long as every attempt brings something, there is hope
                raise _unreachable(url, error, by_hand) from error
            logger.info("The connection broke (%s); going on with %s", error, url)


def forget(part: Path) -> None:
    """Remove a part and its note."""
    for path in (_note(part), part):
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which place could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise _DiskError(
            f"Expected '{path}' to be writable ({reason}). Free space there or choose another folder with --root."
        ) from error


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A new file, safe on the disk when the block ends."""
    with writing(path), open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def opened(path: Path, mode: str) -> IO[bytes]:
    """Open a file for writing, with a clear error."""
    with writing(path):
        return open(path, mode)


def _receive(url: str, part: Path, report: Report) -> None:
    note = _read_note(part)
    done = _size(part) if note.get("url") == url else 0
    if done and done == note.get("total"):
        return
    validator = note.get("validator") if done else None
    headers = {"Range": f"bytes={done}-", "If-Range": str(validator)} if validator else {}
    with urllib.request.urlopen(_request(url, headers), timeout=TIMEOUT_SECONDS) as response:
        done, total = _extent(response, part, done)
        content = {"url": url, "validator": _validator(response), "total": total}
        with writing(part):
            if not done:  # first the old bytes go, so that a new note never stands beside them
                forget(part)
            write_atomically(_note(part), json.dumps(content).encode())
        with opened(part, "ab") as file:
            while chunk := response.read1(CHUNK):
                with writing(part):
                    file.write(chunk)
                done += len(chunk)
                report(url, done, total)
            with writing(part):
                file.flush()
                os.fsync(file.fileno())
    if total is not None and done != total:
        raise ConnectionError(f"{done:,} of {total:,} bytes arrived")


def _extent(response: HTTPResponse, part: Path, asked: int) -> tuple[int, int | None]:
    """Where the bytes of a response begin, and how many there are in the whole file."""
    if response.status != 206:
        return 0, _number(response.headers.get("Content-Length"))
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != asked:
        forget(part)
        raise HTTPException(f"the server sent another range than asked for: {response.headers.get('Content-Range')}")
    return asked, _number(found[2])


def _validator(response: HTTPResponse) -> str | None:
    """What tells one version of the file from another, if the server has a word for it."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _request(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> urllib.request.Request:
    common = {"User-Agent": "fgsam", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers={**common, **(headers or {})}, method=method)


def _unreachable(url: str, error: Exception, by_hand: str) -> OSError:
    reason = getattr(error, "reason", None) or error
    if isinstance(error, HTTPError):
        reason = f"HTTP {error.code} {error.reason}"
    return OSError(
        f"Expected {url} to be reachable (got {str(reason) or type(error).__name__}). Check the network, and give the "
        f"command again: what has arrived is kept. Or fetch it by hand {by_hand}, or take it from elsewhere with "
        "--from FOLDER_OR_ADDRESS."
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note(part: Path) -> Path:
    """Says of which file, in which version, a part is."""
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


class _DiskError(OSError):
    """A fault of the disk, not of the network."""
