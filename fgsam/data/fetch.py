"""Fetches the raw files of named graphs, and puts none into its place before it is whole."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fgsam.data.card import Card
from fgsam.data.download import CHUNK, Report, download, forget, is_address, opened, size_at, writing, written
from fgsam.data.folders import DATA_VARIABLE, cache_folder
from fgsam.data.locate import find
from fgsam.files import file_digest
from fgsam.locks import try_lock, wait_for_lock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One thing to fetch: a file, or an archive with several.

    Attributes:
        source: An http or https address, or the path of a file.
        places: Where each file belongs below the data folder, and its name inside the archive; None for no archive.
        digests: The sha256 that a file must have, one of them; files that may differ are left out.
    """

    source: str
    places: Mapping[str, str | None]
    digests: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_archive(self) -> bool:
        """Whether the files come out of an archive."""
        return None not in self.places.values()

    @property
    def part(self) -> str:
        """Where the bytes gather, below the data folder."""
        place = Path(self.source).name if self.is_archive else next(iter(self.places))
        return str(Path(place).parent / f".{Path(place).name}.part")


def download_folder(root: Path | str | None = None) -> Path:
    """The folder that files are fetched into: ``root``, or else ``FGSAM_DATA`` if it can be written, or the cache.

    Raises:
        OSError: If there is none of them.
    """
    if root is not None:
        return Path(root).expanduser()
    named = os.environ.get(DATA_VARIABLE)
    if named and _is_writable(Path(named).expanduser()):
        return Path(named).expanduser()
    return cache_folder() / "data"


def jobs(card: Card, files: Sequence[str], mirror: str | None = None) -> list[Job]:
    """What has to be fetched for some of a graph's files.

    Args:
        card: The card of the graph.
        files: Raw files, as the card names them.
        mirror: Address or folder below which the files lie as they do below the data folder; None for the places that
            the card names.

    Raises:
        FileNotFoundError: If the mirror is a folder without one of the files.
        ValueError: If the card names no place for a file, or the mirror is no folder and no http or https address.
    """
    if mirror is not None:
        return [Job(_mirrored(mirror, file), {file: None}) for file in files]
    known = {place for source in card.downloads for place in source.places}
    unknown = [file for file in files if file not in known]
    if unknown:
        raise ValueError(
            f"Expected a known place to fetch {', '.join(unknown)} of graph '{card.name}' from. {card.no_download} "
            f"Where you have the files, put them below the data folder, or give --from FOLDER_OR_ADDRESS."
        )
    found = []
    for source in card.downloads:
        places = {place: source.members.get(place) for place in source.places if place in files}
        digests = {place: card.raw_files[place] for place in places if source.exact and place in card.raw_files}
        if places:
            found.append(Job(source.url, places, digests))
    return found


def size_of(job: Job, folder: Path) -> int | None:
    """Return how many bytes a job brings, or None if the server does not say.

    Raises:
        OSError: If the server cannot be reached.
    """
    if not is_address(job.source):
        return Path(job.source).stat().st_size
    return size_at(job.source, _by_hand(job, folder))


def fetch(job: Job, folder: Path, report: Report = lambda name, done, total: None) -> list[Path]:
    """Fetch one file or archive; return the paths of its files.

    Bytes gather in a hidden ``.part`` file, from which a later call goes on. Other processes that fetch into the same
    folder wait.

    Args:
        job: What to fetch.
        folder: The data folder; made if it is missing.
        report: Told about every piece that arrives.

    Raises:
        OSError: If the source cannot be reached or the folder cannot be written.
        ValueError: If a file has another sha256 than it must have, or an archive is damaged.
    """
    part = folder / job.part
    targets = {place: folder / place for place in job.places}
    with writing(folder):
        for path in (part, *targets.values()):
            path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as has_waited:
        if not (has_waited and all(path.is_file() for path in targets.values())):
            if is_address(job.source):
                download(job.source, part, report, _by_hand(job, folder))
            else:
                _copy(Path(job.source), part, report)
            _put_all(job, part, targets)
    return list(targets.values())


def _by_hand(job: Job, folder: Path) -> str:
    """What a user without this program would do with the file, for messages."""
    places = [f"'{folder / place}'" for place in job.places]
    if not job.is_archive:
        return f"and save it as {places[0]}"
    members = " and ".join(f"'{member}' as {place}" for member, place in zip(job.places.values(), places, strict=True))
    return f"and unpack {members}"


def _mirrored(mirror: str, file: str) -> str:
    if is_address(mirror):
        return f"{mirror.rstrip('/')}/{quote(file)}"
    if "://" in mirror:
        raise ValueError(f"Expected a folder, or an address that begins with http:// or https:// (got '{mirror}').")
    path = find(file, mirror)
    if path is None:
        raise FileNotFoundError(f"Expected '{file}' below the folder '{mirror}' (no such file). Check --from.")
    return str(path)


def _copy(source: Path, part: Path, report: Report) -> None:
    total = source.stat().st_size
    done = 0
    with open(source, "rb") as file, written(part) as copy:
        while chunk := file.read(CHUNK):
            copy.write(chunk)
            done += len(chunk)
            report(str(source), done, total)


def _put_all(job: Job, part: Path, targets: Mapping[str, Path]) -> None:
    """Check what has arrived and move it into its place; what is wrong is thrown away."""
    try:
        for place, member in job.places.items():
            if member is None:
                _put(job, place, part, targets[place])
            else:
                _unpack(job, place, part, targets[place])
    except ValueError:
        forget(part)
        raise
    forget(part)


def _unpack(job: Job, place: str, part: Path, target: Path) -> None:
    """Take one member, and nothing else, out of an archive."""
    member = str(job.places[place])
    extracted = target.with_name(f".{target.name}.part")
    try:
        _extract(job, member, part, extracted)
        _put(job, place, extracted, target)
    finally:
        extracted.unlink(missing_ok=True)


def _extract(job: Job, member: str, part: Path, extracted: Path) -> None:
    try:
        with zipfile.ZipFile(part) as archive, archive.open(member) as packed, written(extracted) as file:
            shutil.copyfileobj(packed, file)
    # No zip file or a wrong checksum; damaged compression; no such member; too short; encrypted, or packed in a way
    # that zipfile does not know (NotImplementedError, which is a RuntimeError).
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"Expected {job.source} to be a zip archive with '{member}' (got {type(error).__name__}: {error}). "
            "It was thrown away. Give the command again; if that does not help, the source has changed."
        ) from error


def _put(job: Job, place: str, part: Path, target: Path) -> None:
    expected = job.digests.get(place, ())
    found = file_digest(part)
    if expected and found not in expected:
        raise ValueError(
            f"Expected '{place}' from {job.source} to have the sha256 {' or '.join(expected)} (got {found}). "
            "It was thrown away. Give the command again; if that does not help, the source has changed: "
            "take the file from elsewhere with --from FOLDER_OR_ADDRESS, then its parsed content alone is compared."
        )
    with writing(target):
        os.replace(part, target)


def _is_writable(folder: Path) -> bool:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the folder alone; wait while another process fetches into it, and say whether that was so."""
    with opened(folder / ".lock", "ab") as file:
        has_waited = not try_lock(file)
        if has_waited:
            logger.warning("Another process fetches into %s; waiting for it", folder)
            wait_for_lock(file)
        yield has_waited
