"""Stamps from the Legacy Surveys' cutout service, for lists of up to some ten thousand objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.remote import GarbledError
from infra.settings import Settings
from tasks.ingest.cutout_answers import Cutout, flux_stamp_of, picture_stamp_of
from tasks.ingest.cutout_requests import GAVE_UP, CutoutRequests, NoAnswerError, RequestFailedError, public
from tasks.ingest.fingerprint import table_digest
from tasks.ingest.source_kinds import LegacySurveysSource
from tasks.ingest.source_table import SourceTable
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.stamps.stamp import Refusal, Stamp

SILENCE = 8
"""Objects in succession without an answer, after which the service has to prove that it answers at all."""

WITNESSES = 3
"""Objects of the whole list that are asked for as a proof, besides the last one that was answered."""

SERVER_ERROR = 500


class CutoutService:
    """Asks for each object's cutout, a few at a time.

    An object that got no answer is put off to the end of its read, where the last third of its attempts is spent. What
    it is refused for is recorded for good, so it must be its own fault and not the service's: an object is refused for
    want of an answer, or for a 4xx, only if the service answered for another object after it. Where SILENCE objects in
    succession, or the last ones of a read, got none, objects that should have one are asked for; if they get none
    either, the run stops, and the next one carries on.
    """

    def __init__(self, source: LegacySurveysSource, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        self.table = SourceTable(source.name, source.catalogue, source.columns, definition, settings)
        self.url = expand(source.url, settings)
        if not self.url.startswith(("https://", "http://")):
            raise GalaxyError(f"{self.table.what}: `url` {public(self.url)} is no address; it begins with https://")
        self.is_flux = definition.units == "nanomaggy"
        self.bands = "".join(definition.bands) if self.is_flux else source.survey_bands
        self.stamp_size = definition.stamp_size
        self.invvar = definition.invvar and source.invvar

    def rows(self) -> pd.DataFrame:
        """One row per row of the table: `object_id`, `ra`, `dec`, `field`.

        Raises
        ------
        GalaxyError
            If the catalogue or a column is missing, or the list is too long for the service.
        """
        count, largest = len(self.table.frame), self.source.largest_list
        if count > largest:
            raise GalaxyError(
                f"{self.table.what}: {count:,} objects are too many for the cutout service, which everybody shares; "
                f"`largest_list` is {largest:,}. Use a source of kind 'bricks', which reads each of the survey's "
                "images once and cuts all stamps out of it"
            )
        return self.table.rows()

    def files(self) -> None:
        """See StampSource: there are none."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: the table's content. A layer of the service is a data release, which does not change."""
        return {self.source.catalogue: table_digest(self.table.place)}

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each row.

        Raises
        ------
        GalaxyError
            If the service does not answer at all; see the class.
        """
        objects = [self._cutout(ra, dec) for ra, dec in zip(rows["ra"], rows["dec"], strict=True)]
        planes = 4 * len(self.bands) * self.stamp_size**2
        with CutoutRequests(self.url, self.source.connections, 100_000 + 3 * planes) as service:
            reading = _Reading(self, service, objects)
            last = self.source.attempts // 3
            put_off = reading.ask_all(range(len(objects)), self.source.attempts - last)
            if last:
                reading.ask_all(put_off, last)
        return [reading.answers[place] for place in range(len(objects))]

    def ask(self, service: CutoutRequests, cutout: Cutout, attempts: int) -> Stamp | Refusal:
        """What the service, asked so often, has for a place; raises NoAnswerError."""
        what = f"the cutout at {cutout.ra:.6f} {cutout.dec:+.6f}"
        ask = self._ask_flux if self.is_flux else self._ask_picture
        return service.persistently(lambda: ask(service, cutout), attempts, what)

    def require_answer(self, service: CutoutRequests, answered: Cutout | None, last: NoAnswerError) -> None:
        """Make sure that the service answers: for what it answered before, or for some of the whole list.

        Raises
        ------
        GalaxyError
            If it does not.
        """
        for cutout in self._witnesses(answered):
            try:
                self.ask(service, cutout, -(-self.source.attempts // 2))
                return
            except NoAnswerError as error:
                last = error
        raise GalaxyError(
            f"{self.table.what}: the cutout service {public(self.url)} answers nothing any more, neither for the last "
            f"objects nor for others of the list; {last}. Finished shards are kept, and nothing is recorded against "
            "the objects of this one; see that the service answers, and that `url` is right, and run again"
        )

    def _witnesses(self, answered: Cutout | None) -> Iterator[Cutout]:
        if answered is not None:
            yield answered
        rows = self.table.rows()
        rows = rows[rows["ra"].between(0, 360) & rows["dec"].between(-90, 90)]
        for place in np.linspace(0, len(rows) - 1, WITNESSES + 2, dtype=int)[1:-1]:
            yield self._cutout(rows["ra"].iloc[place], rows["dec"].iloc[place])

    def _cutout(self, ra: float, dec: float) -> Cutout:
        return Cutout(float(ra), float(dec), self.stamp_size, self.source.pixel_scale, self.bands, self.invvar)

    def _ask_flux(self, service: CutoutRequests, cutout: Cutout) -> Stamp | Refusal:
        parameters = self._parameters(cutout) | ({"invvar": "1"} if cutout.invvar else {})
        try:
            return flux_stamp_of(service.get("fits-cutout", parameters), cutout)
        except RequestFailedError as error:
            # outside of the survey's footprint the service fails at a FITS file, but draws an empty picture
            if error.status == SERVER_ERROR and self._is_outside(service, cutout):
                return Refusal("no coverage", "no_coverage", "the service has no image there")
            raise

    def _ask_picture(self, service: CutoutRequests, cutout: Cutout) -> Stamp | Refusal:
        return picture_stamp_of(service.get("jpeg-cutout", self._parameters(cutout)), cutout)

    def _is_outside(self, service: CutoutRequests, cutout: Cutout) -> bool:
        try:
            answer = self._ask_picture(service, cutout)
        except (RequestFailedError, GarbledError):
            return False
        return isinstance(answer, Refusal) and answer.state == "no_coverage"

    def _parameters(self, cutout: Cutout) -> dict[str, str]:
        return {
            "ra": f"{cutout.ra:.8f}",  # 0.04 milliarcsec
            "dec": f"{cutout.dec:.8f}",
            "layer": self.source.layer,
            "pixscale": repr(cutout.pixel_scale),
            "size": str(cutout.size),
            "bands": cutout.bands,
        }


class _Reading:
    """The objects of one read, and what was said of them so far."""

    def __init__(self, source: CutoutService, service: CutoutRequests, objects: list[Cutout]) -> None:
        self.answers: dict[int, Stamp | Refusal] = {}
        self._source = source
        self._service = service
        self._objects = objects
        self._answered: Cutout | None = None

    def ask_all(self, places: Iterable[int], attempts: int) -> list[int]:
        """Ask for the objects at some places; gives those whose attempts were used up."""
        service = self._service
        put_off: list[int] = []
        with ThreadPoolExecutor(self._source.source.connections) as threads:
            asked = {
                threads.submit(self._source.ask, service, self._objects[place], attempts): place for place in places
            }
            try:
                silence = 0
                for done, future in enumerate(as_completed(asked), 1):
                    place, trouble = asked[future], future.exception()
                    if not isinstance(trouble, NoAnswerError):
                        self.answers[place] = future.result()
                        self._answered, silence = self._objects[place], 0
                        continue
                    self.answers[place] = trouble.refusal
                    if trouble.refusal.reason == GAVE_UP:
                        put_off.append(place)
                    silence += 1
                    if silence == SILENCE or done == len(asked):
                        self._source.require_answer(service, self._answered, trouble)
                        silence = 0
            except BaseException:
                service.stop()
                threads.shutdown(cancel_futures=True)
                raise
        return put_off
