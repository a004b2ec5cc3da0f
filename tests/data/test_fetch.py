from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fgsam.data import download
from fgsam.data.card import Card, Download, load_card
from fgsam.data.fetch import Job, download_folder, fetch, jobs, size_of
from tests.data.server import BadServer, serving

CONTENT = random.Random(0).randbytes(50_000)
PART = ".words.npz.part"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(download, "CHUNK", 1000)
    with serving(words=CONTENT) as server:
        yield server


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def job_of(server: BadServer, *digests: str) -> Job:
    return Job(f"{server.address}/words", {"a/words.npz": None}, {"a/words.npz": digests} if digests else {})


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def test_a_file_lies_in_its_place_and_every_piece_was_reported(server: BadServer, tmp_path: Path):
    reports: list[tuple[int, int | None]] = []
    job = job_of(server, sha(CONTENT))
    paths = fetch(job, tmp_path, lambda name, done, total: reports.append((done, total)))
    assert paths == [tmp_path / "a" / "words.npz"]
    assert paths[0].read_bytes() == CONTENT
    assert names(tmp_path) == {"a/words.npz"}
    assert reports[-1] == (len(CONTENT), len(CONTENT)) == (size_of(job, tmp_path),) * 2
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


def test_a_broken_connection_is_taken_up_where_it_ended(server: BadServer, tmp_path: Path):
    server.cuts = [20_000, 20_000]
    fetch(job_of(server, sha(CONTENT)), tmp_path)
    assert server.asked == [None, "bytes=20000-", "bytes=40000-"]
    assert (tmp_path / "a" / "words.npz").read_bytes() == CONTENT


def interrupted(server: BadServer, folder: Path) -> None:
    """Leave a part of 20,000 bytes: the second response brings nothing."""
    server.cuts = [20_000, 0]
    with pytest.raises(OSError, match=r"got 20,000 of 50,000 bytes arrived\)\. .* what has arrived is kept"):
        fetch(job_of(server), folder)
    server.asked.clear()


def test_a_later_call_goes_on(server: BadServer, tmp_path: Path):
    interrupted(server, tmp_path)
    assert names(tmp_path) == {f"a/{PART}", f"a/{PART}.json"}
    fetch(job_of(server, sha(CONTENT)), tmp_path)
    assert server.asked == ["bytes=20000-"]
    assert names(tmp_path) == {"a/words.npz"}


@pytest.mark.parametrize("change", ["ranges", "tag", "content", "no tag", "other address"])
def test_a_download_that_cannot_be_taken_up_begins_again(server: BadServer, tmp_path: Path, change: str):
    interrupted(server, tmp_path)
    content, job = CONTENT, job_of(server)
    if change == "ranges":
        server.ranges = False
    elif change == "tag":
        server.tag = '"v2"'
    elif change == "content":
        content = server.files["words"] = CONTENT[::-1][:10_000]
        server.tag = '"v2"'
    elif change == "no tag":
        note = tmp_path / "a" / f"{PART}.json"
        note.write_text(note.read_text().replace('"\\"v1\\""', "null"))
    else:
        content = server.files["letters"] = CONTENT[::-1]
        job = dataclasses.replace(job, source=f"{server.address}/letters")
    fetch(job, tmp_path)
    assert (tmp_path / "a" / "words.npz").read_bytes() == content


def test_a_file_that_has_become_shorter_under_the_same_tag_begins_again(server: BadServer, tmp_path: Path):
    interrupted(server, tmp_path)
    server.files["words"] = CONTENT[:15_000]
    fetch(job_of(server), tmp_path)
    assert server.asked == ["bytes=20000-", None]
    assert (tmp_path / "a" / "words.npz").read_bytes() == CONTENT[:15_000]


def test_another_range_than_asked_for_is_refused_and_the_next_call_begins_again(server: BadServer, tmp_path: Path):
    interrupted(server, tmp_path)
    server.shift = 10
    with pytest.raises(OSError, match=r"another range than asked for: bytes 20010-"):
        fetch(job_of(server), tmp_path)
    fetch(job_of(server, sha(CONTENT)), tmp_path)
    assert server.asked == ["bytes=20000-", None]


def test_a_part_that_is_whole_is_not_fetched_again(server: BadServer, tmp_path: Path):
    interrupted(server, tmp_path)
    (tmp_path / "a" / PART).write_bytes(CONTENT)
    fetch(job_of(server, sha(CONTENT)), tmp_path)
    assert server.asked == []
    assert names(tmp_path) == {"a/words.npz"}


def test_a_wrong_digest_is_refused_and_nothing_stays(server: BadServer, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "words.npz").write_text("what was there before")
    with pytest.raises(ValueError, match=rf"to have the sha256 {'0' * 64} \(got {sha(CONTENT)}\)\. It was thrown away"):
        fetch(job_of(server, "0" * 64), tmp_path)
    assert names(tmp_path) == {"a/words.npz"}
    assert (tmp_path / "a" / "words.npz").read_text() == "what was there before"


def test_a_missing_file_names_address_and_ways_out(server: BadServer, tmp_path: Path):
    job = dataclasses.replace(job_of(server), source=f"{server.address}/none")
    expected = (
        rf"{server.address}/none to be reachable \(got HTTP 404 Not Found\)\. Check the network, .* Or fetch it by "
        rf"hand and save it as '{tmp_path}/a/words\.npz', or take it from elsewhere with --from FOLDER_OR_ADDRESS\."
    )
    with pytest.raises(OSError, match=expected):
        fetch(job, tmp_path)
    assert size_of(job, tmp_path) is None


def test_without_a_network_there_is_one_clear_error(tmp_path: Path):
    with serving() as server:
        job = job_of(server)
    archive = dataclasses.replace(job, places={"a/words.npz": "words"})
    for ask in (fetch, size_of):
        with pytest.raises(OSError, match=r"to be reachable \(got .*refused\)\. Check the network"):
            ask(job, tmp_path)
        with pytest.raises(OSError, match=rf"by hand and unpack 'words' as '{tmp_path}/a/words\.npz'"):
            ask(archive, tmp_path)


def test_a_silent_server_is_given_up(server: BadServer, tmp_path: Path):
    server.silent = True
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"to be reachable \(got .*timed out\)"):
        fetch(job_of(server), tmp_path)
    assert time.monotonic() - begun < 5


def test_a_slow_server_is_waited_for(server: BadServer, tmp_path: Path):
    server.pause = 0.02
    fetch(job_of(server, sha(CONTENT)), tmp_path)
    assert server.asked == [None]


def test_only_named_members_leave_an_archive(server: BadServer, tmp_path: Path):
    server.files["all.zip"] = zipped(x__nodes=b"nodes", x__edges=b"edges", **{"../../evil": b"evil"})
    job = Job(f"{server.address}/all.zip", {"g/nodes": "x/nodes", "g/edges": "x/edges"}, {"g/nodes": [sha(b"nodes")]})
    fetch(job, tmp_path / "in")
    assert names(tmp_path) - {"in/.lock"} == {"in/g/nodes", "in/g/edges"}
    assert (tmp_path / "in" / "g" / "edges").read_bytes() == b"edges"


@pytest.mark.parametrize("fault", ["no zip", "cut", "flipped", "no member"])
def test_a_damaged_archive_is_refused_and_thrown_away(server: BadServer, tmp_path: Path, fault: str):
    content = zipped(nodes=CONTENT)
    damaged = {
        "no zip": b"<html>",
        "cut": content[:30_000],
        "flipped": content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
        "no member": zipped(other=b""),
    }
    server.files["all.zip"] = damaged[fault]
    with pytest.raises(ValueError, match=r"all\.zip to be a zip archive with 'nodes' \(got \w+: .*It was thrown away"):
        fetch(Job(f"{server.address}/all.zip", {"g/nodes": "nodes"}), tmp_path)
    assert names(tmp_path) == set()


def test_a_full_disk_is_not_taken_for_a_broken_connection(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"to be writable \(.*No space left on device.*\)\. Free space there or choose"):
        fetch(job_of(server), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(server: BadServer, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"'{tmp_path}/file' to be writable .* choose another folder with --root"):
        fetch(job_of(server), tmp_path / "file")


def test_a_second_process_waits_and_does_not_fetch_again(
    server: BadServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    server.pause = 0.01
    threads = [threading.Thread(target=fetch, args=(job_of(server), tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == [None]
    assert f"Another process fetches into {tmp_path}" in caplog.text


CHILD = """
import sys
from pathlib import Path
from fgsam.data import download, fetch
download.CHUNK = 1000
fetch.fetch(fetch.Job(sys.argv[1], {"words.npz": None}, {"words.npz": [sys.argv[3]]}), Path(sys.argv[2]))
"""


def test_a_killed_download_goes_on_in_the_next_process(server: BadServer, tmp_path: Path):
    server.pause = 0.05
    command = [sys.executable, "-c", CHILD, f"{server.address}/words", str(tmp_path), sha(CONTENT)]
    process = subprocess.Popen(command)
    while not (tmp_path / PART).is_file() or (tmp_path / PART).stat().st_size < 5000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert names(tmp_path) == {PART, f"{PART}.json"}
    server.pause = 0
    fetch(Job(f"{server.address}/words", {"words.npz": None}, {"words.npz": [sha(CONTENT)]}), tmp_path)
    assert re.fullmatch(r"bytes=\d{4,}-", str(server.asked[-1]))
    assert (tmp_path / "words.npz").read_bytes() == CONTENT


def card_of(**changes: object) -> Card:
    downloads = [
        Download("http://host/b.npz", file="x/b.npz", exact=False),
        Download("http://host/all.zip", members={"x/c.npz": "c", "x/d.npz": "d"}),
    ]
    known = {"x/b.npz": ["1"], "x/c.npz": ["2", "3"]}
    files = ["x/b.npz", "x/c.npz", "x/d.npz"]
    parts = {"files": files, "downloads": downloads, "raw_files": known, "no_download": None, **changes}
    return dataclasses.replace(load_card("synthetic"), name="mine", **parts)  # type: ignore[arg-type]


def test_jobs_bring_the_files_that_are_asked_for_and_check_those_that_are_known():
    assert jobs(card_of(), ["x/b.npz", "x/c.npz"]) == [
        Job("http://host/b.npz", {"x/b.npz": None}),
        Job("http://host/all.zip", {"x/c.npz": "c"}, {"x/c.npz": ["2", "3"]}),
    ]


def test_a_file_without_a_known_place_says_why_and_what_to_do():
    card = card_of(no_download="Ask its authors.")
    with pytest.raises(ValueError, match=r"fetch x/e\.npz of graph 'mine' from\. Ask its authors\. .*--from FOLDER"):
        jobs(card, ["x/b.npz", "x/e.npz"])


def test_a_mirror_serves_every_file_from_below_its_address(server: BadServer, tmp_path: Path):
    server.files["data/x/e%20f.npz"] = CONTENT
    for mirror in (f"{server.address}/data", f"{server.address}/data/"):
        (job,) = jobs(card_of(), ["x/e f.npz"], mirror)
        assert fetch(job, tmp_path) == [tmp_path / "x" / "e f.npz"]
        assert (tmp_path / "x" / "e f.npz").read_bytes() == CONTENT


def test_a_folder_is_a_mirror(tmp_path: Path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "b.npz").write_bytes(CONTENT)
    (job,) = jobs(card_of(), ["x/b.npz"], str(tmp_path / "from"))
    assert size_of(job, tmp_path) == len(CONTENT)
    assert fetch(job, tmp_path / "to") == [tmp_path / "to" / "x" / "b.npz"]
    assert (tmp_path / "to" / "x" / "b.npz").read_bytes() == CONTENT
    with pytest.raises(FileNotFoundError, match=rf"'x/c\.npz' below the folder '{tmp_path}/from' .*Check --from"):
        jobs(card_of(), ["x/c.npz"], str(tmp_path / "from"))
    with pytest.raises(ValueError, match=r"begins with http:// or https:// \(got 'ftp://host'\)"):
        jobs(card_of(), ["x/b.npz"], "ftp://host")


def test_files_go_into_the_named_folder_or_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FGSAM_DATA", raising=False)
    assert download_folder() == tmp_path / "cache" / "data"
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "data"))
    assert download_folder() == tmp_path / "data"
    assert download_folder(tmp_path / "root") == tmp_path / "root"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert download_folder() == tmp_path / "cache" / "data"
