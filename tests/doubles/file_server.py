"""A web server of one folder that fails as asked: lost connections, errors, pages instead of files, flipped bits.

`python -m tests.doubles.file_server FOLDER` runs it by itself, prints its port, and takes faults by
POST /faults with JSON such as {"drop": 0.2, "garbage": 0.1}: kind to the share of requests that fail so.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KINDS = ("drop", "error", "forbidden", "page", "garbage", "short", "flipped")


class FileServer(ThreadingHTTPServer):
    """Serves the files below a folder on loopback; each request fails by chance, as `faults` says.

    Attributes
    ----------
    faults
        Kind to share of requests.
    passes
        After so many faults on end of one path, the next request of it succeeds; 0 is never.
    delay
        Seconds that each file takes.
    requests
        Path to number of requests; with the kinds of fault that were served.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: dict[str, float] = {}
        self.passes = 0
        self.delay = 0.0
        self.requests: Counter[str] = Counter()
        self._on_end: Counter[str] = Counter()
        self.chance = random.Random(0)

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str) -> str | None:
        """The fault of the next request of a path, or None."""
        number = self.chance.random()
        if not self.passes or self._on_end[path] < self.passes:
            for kind, share in self.faults.items():
                number -= share
                if number < 0:
                    self.requests[kind] += 1
                    self._on_end[path] += 1
                    return kind
        self._on_end[path] = 0
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no trouble."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self.server.faults = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(200, b"{}", True)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        self.server.requests[self.path] += 1
        fault = self.server.fault(self.path) if body else None
        time.sleep(self.server.delay)
        if not path.is_file():
            self._send(404, b"no such file", body)
        elif fault == "error":
            self._send(503, b"busy", body)
        elif fault == "forbidden":
            self._send(403, b"not for you", body)
        elif fault == "page":
            self._send(200, b"<html><body>Please come back later.</body></html>", body)
        elif fault == "garbage":
            self._send(200, self.server.chance.randbytes(5000), body)
        else:
            self._send_file(path.read_bytes(), body, fault)

    def _send_file(self, content: bytes, body: bool, fault: str | None) -> None:
        if fault == "flipped":
            place = self.server.chance.randrange(len(content) // 2, len(content))
            content = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        if fault == "short":
            content = content[: len(content) // 2]
        if fault == "drop":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 3])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self._send(200, content, body)

    def _send(self, status: int, content: bytes, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def serve(folder: Path) -> Iterator[FileServer]:
    """A server in a thread of this process."""
    with FileServer(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


if __name__ == "__main__":
    with FileServer(Path(sys.argv[1])) as alone:
        print(alone.server_address[1], flush=True)
        alone.serve_forever()
