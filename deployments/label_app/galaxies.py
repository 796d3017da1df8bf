"""Pictures of stamps, and the page of one galaxy."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from deployments.label_app.pages import A_YEAR, page
from deployments.label_app.searches import find_or_404
from deployments.label_app.security import KnownPerson
from deployments.label_app.service import LARGEST_ID, Service, service_of
from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.ring_structure import RING_COLUMNS

router = APIRouter()

StretchName = Literal["viewer", "faint", "cores", "negative"]
Row = Annotated[int, Path(ge=0, le=LARGEST_ID)]

NEIGHBOURS = 8
SKY_VIEWER = "https://www.legacysurvey.org/viewer"
HIDDEN = ("row", "object_id", "ra", "dec", "refused", "unanswered", "boxes", "dataset_digest")
"""Columns of the catalogue that the page shows elsewhere or not at all."""

FOLDED = (*MEASURED_COLUMNS, *RING_COLUMNS)
"""Columns that are too many to be read among the others."""


@router.get("/stamps/{catalogue}/{row}/{stretch}.jpg")
def stamp_picture(request: Request, catalogue: str, row: Row, stretch: StretchName, person: KnownPerson) -> Response:
    """A stamp as a JPEG, which the browser keeps."""
    service = service_of(request)
    opened = service.library.catalogue(catalogue)
    opened.check_row(row)
    # The address holds the catalogue's digest, so that what it shows never changes.
    headers = {"ETag": f'"{service.pictures.digest(opened, row)}-{stretch}"', "Cache-Control": A_YEAR}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(service.pictures.jpeg(opened, row, stretch), media_type="image/jpeg", headers=headers)


@router.get("/galaxies/{catalogue}/{row}")
async def show_galaxy(
    request: Request,
    catalogue: str,
    row: Row,
    person: KnownPerson,
    stretch: StretchName = "viewer",
    part: bool = False,
    blind: bool = False,
    search: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
) -> Response:
    """A galaxy at large, with its neighbours and what the catalogue says.

    `part` leaves out what is around it, `blind` what models and people said of it, and whom it is like; `search` is the
    one that it was opened from.
    """
    service = service_of(request)
    content = await service.learners.run(_describe, service, catalogue, row, search)
    return page(request, "galaxy_part.html" if part else "galaxy.html", stretch=stretch, blind=blind, **content)


def _describe(service: Service, name: str, row: int, search: int | None) -> dict[str, Any]:
    catalogue = service.library.catalogue(name)
    catalogue.check_row(row)
    position = catalogue.position(row)
    values = {key: _text(value) for key, value in catalogue.values(row).items() if key not in HIDDEN}
    measures = {key: values.pop(key) for key in FOLDED if key in values}
    near = catalogue.neighbours(catalogue.features.features[row], NEIGHBOURS, without=[row])
    with service.database.reading() as session:
        opened_from = None if search is None else find_or_404(session, search)
    return {
        "search": opened_from,
        "catalogue": catalogue.name,
        "row": row,
        "object_id": catalogue.object_id(row),
        "digest": service.pictures.digest(catalogue, row),
        "position": position,
        "viewer": None if position is None else _viewer(position),
        "values": values,
        "measures": measures,
        "neighbours": [(int(other), catalogue.object_id(int(other))) for other in near],
    }


def _viewer(position: tuple[float, float]) -> str:
    ra, dec = position
    return f"{SKY_VIEWER}?{urlencode({'ra': f'{ra:.6f}', 'dec': f'{dec:.6f}', 'layer': 'ls-dr10', 'zoom': 16})}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
