"""A local server that speaks as the Legacy Surveys' cutout service does, and fails as it is told.

    python -m tests.doubles.cutout_server --catalogue list.csv     # simulated galaxies at its positions
    GALAXY_SKY=... python -m tests.doubles.cutout_server --real    # cubes and pictures of that folder

It prints its address. Pages: `/viewer/fits-cutout` and `/viewer/jpeg-cutout` (or `cutout.fits`, `cutout.jpg`), with
parameters and peculiarities of legacysurvey/imagine, map/views.py: 400 without a position, sizes clamped, bands that
the layer has not replaced by all that it has, an error of the server for a FITS file outside of the footprint but a
flat picture there. `GET /log` tells what was asked; `POST /faults` switches faults, which replace those before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from tests.doubles.cutout_sky import RealSky, SimulatedSky, Sky, to_fits, to_jpeg

PAGES = {"fits-cutout": True, "cutout.fits": True, "jpeg-cutout": False, "cutout.jpg": False}
"""Page to whether it gives FITS."""

DEFAULT_SIZE, NATIVE_SCALE = 256, 0.262
HTML = b"<html><body><h1>The survey's pages are being worked on</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and for whom.

    Attributes
    ----------
    kind
        A status from 400 to 599; `drop` (the connection, in the middle of the answer), `garbage` or `html` (with
        status 200), `slow`, `wrong_size`, `wrong_bands`, `off_centre`, `turned`, or `rate`: 429 for all that is asked
        more often.
    share
        Of the positions, chosen by their own digits.
    times
        Requests of each of these positions that are hit, the first ones; 0 is all.
    retry_after
        Seconds in a header Retry-After.
    as_date
        Whether that is a date.
    seconds
        For `slow`.
    per_second
        For `rate`.
    """

    kind: str
    share: float = 1.0
    times: int = 0
    retry_after: float | None = None
    as_date: bool = False
    seconds: float = 1.0
    per_second: float = 10.0

    def hits(self, place: str, count: int) -> bool:
        """Whether it strikes at the count-th request of a place."""
        lot = int(hashlib.sha256(f"{self.kind} {place}".encode()).hexdigest()[:8], 16) / 16**8
        return lot < self.share and (not self.times or count <= self.times)


@dataclass(frozen=True)
class Asked:
    """One request: its place "ra dec", page, time in seconds, and the status that was sent."""

    place: str
    page: str
    time: float
    status: int


class CutoutServer:
    """The server, in threads of this process; a context that is open while it answers.

    Parameters
    ----------
    largest
        Sizes above it are clamped.
    seconds
        What an answer takes.
    """

    def __init__(self, sky: Sky, *, port: int = 0, largest: int = 3000, seconds: float = 0.0) -> None:
        self.sky = sky
        self.largest = largest
        self.seconds = seconds
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.highest_concurrency = 0
        self._lock = threading.Lock()
        self._now = 0
        self._counts: Counter[str] = Counter()
        self._tokens, self._filled = 1.0, time.monotonic()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", port), handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The service's address, as a survey definition has it."""
        return f"http://127.0.0.1:{self.port}/viewer"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Answer until the process ends."""
        self._server.serve_forever()

    def set_faults(self, faults: Sequence[dict[str, Any]]) -> None:
        """From now on, only these; requests are counted anew."""
        with self._lock:
            self.faults = [Fault(**{**fault, "kind": str(fault["kind"])}) for fault in faults]
            self._counts.clear()

    def log(self) -> dict[str, Any]:
        """What was asked so far."""
        with self._lock:
            return {
                "requests": len(self.asked),
                "highest_concurrency": self.highest_concurrency,
                "statuses": dict(Counter(str(asked.status) for asked in self.asked)),
                "asked": [asdict(asked) for asked in self.asked],
            }

    def begin(self) -> None:
        """A request has come."""
        with self._lock:
            self._now += 1
            self.highest_concurrency = max(self.highest_concurrency, self._now)

    def end(self, asked: Asked) -> None:
        """It is answered."""
        with self._lock:
            self._now -= 1
            self.asked.append(asked)

    def fault(self, place: str) -> Fault | None:
        """What goes wrong with this request."""
        with self._lock:
            self._counts[place] += 1
            for fault in self.faults:
                if fault.kind == "rate":
                    if not self._allowed(fault.per_second):
                        return fault
                elif fault.hits(place, self._counts[place]):
                    return fault
        return None

    def _allowed(self, per_second: float) -> bool:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled) * per_second, max(1.0, per_second / 10))
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are none of the terminal's business; others' errors are."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: CutoutServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _asked: Asked | None = None

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        page = address.path.strip("/").removeprefix("viewer/")
        if page == "log":
            self._send(200, json.dumps(self.owner.log()).encode(), "application/json")
        elif page not in PAGES:
            self._send(404, b"no such page", "text/html")
        else:
            values = {name: found[0] for name, found in parse_qs(address.query, keep_blank_values=True).items()}
            place = f"{values.get('ra')} {values.get('dec')}"
            self._asked = Asked(place, page, time.time(), 0)
            self.owner.begin()
            try:
                self._send(*self._cutout(page, values, self.owner.fault(place)))
            finally:
                self._end(0)

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"[]")
        if self.path != "/faults":
            self._send(404, b"no such page", "text/html")
            return
        try:
            self.owner.set_faults(content if isinstance(content, list) else [content] if content else [])
        except (TypeError, KeyError) as error:
            self._send(400, str(error).encode(), "text/plain")
        else:
            self._send(200, b"{}", "application/json")

    def _end(self, status: int) -> None:
        """The work on a cutout is over: noted before the last of it is sent, or the next would seem to overlap it."""
        if self._asked is not None:
            self.owner.end(replace(self._asked, status=status))
            self._asked = None

    def _cutout(self, page: str, values: dict[str, str], fault: Fault | None) -> tuple[Any, ...]:
        """What to send: status, content, its type, and further arguments of `_send`."""
        time.sleep(self.owner.seconds)
        kind = fault.kind if fault else ""
        if fault and (kind == "rate" or kind.isdecimal()):
            headers = {}
            if fault.retry_after is not None:
                moment = formatdate(time.time() + fault.retry_after, usegmt=True)
                headers["Retry-After"] = moment if fault.as_date else f"{fault.retry_after:g}"
            return 429 if kind == "rate" else int(kind), b"not now", "text/plain", headers
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        if kind == "html":
            return 200, HTML, "text/html"
        try:
            ra, dec = float(values["ra"]), float(values["dec"])
        except (KeyError, ValueError):
            return 400, b"Need ra,dec keywords", "text/html"
        content = self._draw(ra, dec, PAGES[page], values, kind)
        if content is None:
            return 500, b"<h1>Server Error (500)</h1>", "text/html"
        if kind == "garbage":
            content = hashlib.shake_256(content).digest(len(content))
        file_type = "image/fits" if PAGES[page] else "image/jpeg"
        return 200, content, file_type, {}, len(content) // 2 if kind == "drop" else None

    def _draw(self, ra: float, dec: float, is_fits: bool, values: dict[str, str], kind: str) -> bytes | None:
        sky = self.owner.sky
        bands = values.get("bands", sky.bands)
        if kind == "wrong_bands" or not bands or set(bands) - set(sky.bands):
            bands = sky.bands if kind != "wrong_bands" else sky.bands[::-1]
        size = min(int(values.get("size", DEFAULT_SIZE)), self.owner.largest)
        size = size // 2 if kind == "wrong_size" else size
        scale = float(values.get("pixscale", NATIVE_SCALE))
        dec += 3 * scale / 3600 * (kind == "off_centre")
        if not is_fits:
            return to_jpeg(sky.picture(ra, dec, bands, size, scale))
        fluxes = sky.fluxes(ra, dec, bands, size, scale)
        if fluxes is None:
            return None
        invvar = sky.inverse_variance(fluxes) if "invvar" in values else None
        return to_fits(fluxes, invvar, ra, dec, bands, scale, turned=kind == "turned")

    def _send(
        self, status: int, content: bytes, file_type: str, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": file_type, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self._end(status)
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = self.close_connection or cut is not None


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A cutout service for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--catalogue", help="CSV file with columns ra and dec: simulated galaxies are there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--south", type=float, default=-90.0, help="no data below this declination, degrees")
    parser.add_argument("--real", action="store_true", help="show the images in the folder GALAXY_SKY")
    parser.add_argument("--largest", type=int, default=3000, help="sizes above it are clamped")
    parser.add_argument("--seconds", type=float, default=0.0, help="what an answer takes")
    options = parser.parse_args()
    if options.real == bool(options.catalogue):
        parser.error("give --catalogue FILE or --real")
    sky: Sky = (
        RealSky(Path(os.environ["GALAXY_SKY"]))
        if options.real
        else SimulatedSky(
            pd.read_csv(options.catalogue)[["ra", "dec"]].to_numpy(), seed=options.seed, south=options.south
        )
    )
    server = CutoutServer(sky, port=options.port, largest=options.largest, seconds=options.seconds)
    print(server.url, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
