"""A server on the loopback that behaves as badly as it is told."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class BadServer(ThreadingHTTPServer):
    """Serves the files of a dict, by path.

    Attributes:
        files: Content by path, without the leading slash.
        cuts: After how many bytes each of the next responses ends before its time.
        ranges: Whether it knows ranges.
        shift: By how much it misses the range that was asked for.
        tag: The ETag of every file; None for none.
        silent: Whether it accepts the connection and says nothing.
        pause: Seconds between the pieces of a response.
        asked: The ``Range`` of each GET, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = True
        self.shift = 0
        self.tag: str | None = '"v1"'
        self.silent = False
        self.pause = 0.0
        self.asked: list[str | None] = []
        self.over = threading.Event()

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def do_HEAD(self) -> None:
        content = self._content()
        if content is not None:
            self._head(200, len(content))

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        if self.server.silent:
            self.server.over.wait(10)
            return
        content = self._content()
        if content is None:
            return
        begin = self._begin(len(content))
        if begin > len(content) or (begin == len(content) and begin):
            self.send_error(416)
            return
        begin += self.server.shift if begin else 0
        self._head(206 if begin else 200, len(content) - begin, f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self._send(content[begin:])

    def _send(self, content: bytes) -> None:
        if self.server.cuts:
            content = content[: self.server.cuts.pop(0)]
        for start in range(0, len(content), 1000):
            self.wfile.write(content[start : start + 1000])
            time.sleep(self.server.pause)

    def _content(self) -> bytes | None:
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
        return content

    def _begin(self, size: int) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        is_same = self.headers["If-Range"] == self.server.tag
        return int(asked[1]) if asked and is_same and self.server.ranges else 0

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", content_range)
        if self.server.tag is not None:
            self.send_header("ETag", self.server.tag)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def serving(**files: bytes) -> Iterator[BadServer]:
    """Serve until the block ends; ``a__b`` is ``a/b``."""
    with BadServer() as server:
        server.files = {name.replace("__", "/"): content for name, content in files.items()}
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
