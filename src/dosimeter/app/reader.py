"""The reader study in the browser: the few questions that its page asks. `readers.sittings` decides what is told."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from dosimeter.errors import DosimeterError
from dosimeter.readers.sittings import Begun, NoSitting, Sittings
from dosimeter.readers.store import Answer

HOME = "/reader/"
Session = Annotated[str, Header(alias="X-Sitting", max_length=64)]


class _Sent(BaseModel):
    """What a browser sends: the fields that are named and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Joining(_Sent):
    """A reader at the door."""

    pseudonym: str = Field(max_length=64)
    resume: bool = False


class Display(_Sent):
    """What a reader saw of the test pattern, and how large and far the image is."""

    dark_seen: bool
    bright_seen: bool
    px_per_mm: float = Field(ge=0.5, le=50)
    distance_cm: float = Field(ge=10, le=500)
    device_px_ratio: float = Field(ge=0.1, le=10)


class Choice(_Sent):
    """An answer."""

    place: int = Field(ge=0, le=1_000_000)
    chosen: Literal["left", "right"]
    response_s: float = Field(ge=0, le=1_000_000)
    window_centre: float | None = Field(default=None, ge=0, le=1)
    window_width: float | None = Field(default=None, gt=0, le=2)


def reader_router(sittings: Sittings) -> APIRouter:
    """Return the routes of a study, all below /api/reader."""
    router = APIRouter(prefix="/api/reader")

    @router.get("/study")
    def study() -> Response:
        return _told(sittings.facts)

    @router.post("/join")
    def join(joining: Joining) -> Response:
        return _told(lambda: {"session": sittings.join(joining.pseudonym, resume=joining.resume)})

    @router.post("/display")
    def note_display(display: Display, session: Session) -> Response:
        return _told(lambda: {"saved": sittings.note_display(session, display.model_dump())})

    @router.get("/next")
    def upcoming(session: Session) -> Response:
        return _told(lambda: sittings.state(session))

    @router.post("/answer")
    def answer(choice: Choice, session: Session) -> Response:
        given = Answer(choice.chosen, choice.response_s, choice.window_centre, choice.window_width)
        return _told(lambda: sittings.answer(session, choice.place, given)._asdict())

    @router.get("/image/{name}")
    def image(name: str) -> Response:
        content = sittings.image(name)
        if content is None:
            return JSONResponse({"error": "This image is not shown now. Reload the page."}, 404)
        return Response(content, media_type="image/png")

    return router


def _told(ask: Callable[[], Any]) -> Response:
    """Return what `ask` returns, or what it refuses in one sentence."""
    try:
        return JSONResponse(ask())
    except Begun as begun:
        counts = {"n_answered": begun.reader.n_answered, "n_trials": begun.reader.n_trials}
        return JSONResponse({"error": str(begun), "begun": counts}, 409)
    except DosimeterError as error:
        return JSONResponse({"error": str(error)}, 401 if isinstance(error, NoSitting) else 409)
