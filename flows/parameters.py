"""The fields that the flows' forms share, with their limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

SurveyName = Annotated[str, Field(title="Survey", min_length=1, max_length=400, json_schema_extra={"position": 0})]
ProfileName = Annotated[str, Field(title="Profile", min_length=1, max_length=400, json_schema_extra={"position": 1})]
SearchName = Annotated[str, Field(title="Search", min_length=1, max_length=400, json_schema_extra={"position": 0})]
Epochs = Annotated[float, Field(title="Epochs", ge=0, le=10_000, json_schema_extra={"position": 2})]
NO_LIMIT = 100_000_000
"""Steps; who asks for epochs in a form means them, whatever the profile's limit is."""

Steps = Annotated[int, Field(title="Steps", ge=0, le=100_000_000, json_schema_extra={"position": 2})]
Shares = Annotated[
    Literal["as the profile says", "adaptive", "equal"], Field(title="Shares", json_schema_extra={"position": 3})
]
Alias = Annotated[
    Literal["champion", "challenger", "previous"], Field(title="Models' alias", json_schema_extra={"position": 2})
]
StageList = Annotated[
    str, Field(title="Stages", min_length=1, max_length=200, pattern=r"^[a-z, -]+$", json_schema_extra={"position": 2})
]
