"""What the models of `facts` and `measured` have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Scalar = str | bool | int | float | None
Count = Annotated[int, Field(ge=0)]


class Typed(BaseModel):
    """A mapping with the keys and types that its readers rely on; others are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True)


class Scope(Typed):
    """Which classifier an entry is about."""

    cohort: str
    protocol: str
    model: str
