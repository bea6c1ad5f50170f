"""The explorer: a finished run's images at any epsilon, as the classifier was shown them, and what it says of each."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
from fastapi import APIRouter, Query, Response
from torch import Tensor

from dosimeter.analysis.flips import flip_epsilon, flips_of
from dosimeter.analysis.names import attack_title, change_title, model_name
from dosimeter.analysis.names import of as named_by
from dosimeter.analysis.wording import records
from dosimeter.app.server import NotThere
from dosimeter.errors import DosimeterError
from dosimeter.examinations.pictures import png
from dosimeter.presentation.section import rows_of
from dosimeter.record.table import read_compact
from dosimeter.replay.replay import Curve, Replay
from dosimeter.storage.base import get_storage, storages
from dosimeter.sweeps.answers import as_stored

HOME = "/explorer/"
KINDS = ("original", "adversarial", "difference")
TIMES = (1, 5, 20, 100)
"""What the page offers to multiply a difference by."""

ANSWERS_KEPT = 4096

Place = Annotated[int, Query(ge=0, le=1_000_000)]
Dose = Annotated[float, Query(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""An epsilon, or a severity of a physical change in its unit."""
StorageName = Annotated[str, Query(max_length=32)]
Times = Annotated[float, Query(ge=1, le=1000, allow_inf_nan=False)]


class Shown(NamedTuple):
    """A case at an epsilon: both images (3, H, W) in [0, 1], its class, and the depth of its source."""

    original: Tensor
    adversarial: Tensor
    label: int
    bits: int


class Explorer:
    """What the page is told. Curves and cases go by their places in the run; no name reaches the file system.

    Args:
        folder: of the finished run.
        data: the folder of the real images, if it has moved since.
        trust: see `Replay`.

    Raises:
        DosimeterError: as `Replay`.
    """

    def __init__(self, folder: Path, *, data: Path | None = None, trust: bool = False) -> None:
        self._replay = Replay(folder, data=data, trust=trust)
        self._curves = [*self._replay.curves.values(), *self._replay.changes.values()]
        run = read_compact(folder / "responses.parquet")
        self._flips = flip_epsilon(run.frame)
        self._physical = rows_of(run).physical
        self._source_levels: dict[str, int] = {}  # by digest of the source
        self._answers: OrderedDict[tuple[int, int, float, str], dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def run(self) -> dict[str, Any]:
        """Return what there is to choose from."""
        with named_by(self._replay.meta):
            curves = [self._curve_facts(curve) for curve in self._curves]
        return {
            "run_id": str(self._replay.meta["run_id"]),
            "phantom": bool(self._replay.meta.get("phantom")),
            "storages": [{"name": each.name, "note": each.note} for each in storages().values()],
            "curves": curves,
        }

    def cases(self, place: int) -> list[dict[str, Any]]:
        """Return the test cases of a curve, those that fall first before others.

        Returns:
            place; label; right, whether it is answered correctly without attack; flip, its flip epsilon or, under a
            physical change, the first severity at which it is answered wrongly, None if it never flipped. All but the
            place are None of a case that could not be answered.
        """
        curve = self._curve(place)
        severities = curve.setting.preset.severities
        flips = self._severities_of(curve) if severities else self._flips_of(curve)
        cases = []
        for index, case_id in enumerate(curve.case_ids):
            known = flips.get(case_id)
            cases.append(
                {
                    "place": index,
                    "label": None if known is None else int(known["label"]),
                    "right": None if known is None else bool(known["correct_at_zero"]),
                    "flip": None if known is None or pd.isna(known["flip_epsilon"]) else float(known["flip_epsilon"]),
                }
            )

        def order(case: dict[str, Any]) -> tuple[Any, ...]:
            flip = case["flip"]
            rank = 0 if flip is None else severities.index(flip) if severities else flip
            return not case["right"], flip is None, rank, case["place"]

        return sorted(cases, key=order)

    def answer(self, place: int, case: int, epsilon: float, storage: str) -> dict[str, Any]:
        """Return what the classifier says of exactly the image that is shown, and how far it was moved.

        Of an image that it refuses to answer `predicted` is the class that it would have said.
        `levels` are the steps between black and white of the file that the original came from, and of the stored
        image's; of one that was never stored the original's.
        """
        key = (place, case, epsilon, storage)
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        curve, shown = self._curve(place), self.shown(place, case, epsilon, storage)
        with self._lock:
            answer = curve.said(shown.adversarial, storage, bits=shown.bits)
        moved = shown.adversarial - shown.original
        source_levels = self._levels_of(curve, case)
        said = {
            "probabilities": answer.probabilities,
            "predicted": answer.predicted,
            "refused": answer.refused,
            "label": shown.label,
            "linf": float(moved.abs().amax()),
            "rms": float(moved.square().mean().sqrt()),
            "levels": {"original": source_levels, "adversarial": get_storage(storage).levels or source_levels},
            "finer": not torch.equal(shown.adversarial, as_stored(shown.adversarial, "png8")),
        }
        with self._lock:
            self._answers[key] = said
            while len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        return said

    def shown(self, place: int, case: int, epsilon: float, storage: str) -> Shown:
        """Return the image before the attack and at `epsilon`, written to a file as `storage` and read again.

        Of a physical change `epsilon` is one of the severities that were asked.

        Raises:
            NotThere: the run has no such curve, case or severity, or there is no such storage.
            DosimeterError: `epsilon` is none, or the image cannot be read any more.
        """
        curve = self._curve(place)
        if case >= len(curve.case_ids):
            raise NotThere(f"case must be below {len(curve.case_ids)}, got {case}.")
        if storage not in storages():
            raise NotThere(f"storage must be one of {', '.join(storages())}, got '{storage}'.")
        severities = curve.setting.preset.severities
        if severities and epsilon not in severities:
            raise NotThere(f"severity must be one of {', '.join(f'{each:g}' for each in severities)}, got {epsilon:g}.")
        if not severities and not 0 <= epsilon <= 1:
            raise DosimeterError(f"epsilon must be from 0 to 1, got {epsilon:g}.")
        target = self._replay.target(curve, curve.case_ids[case])
        stored = as_stored(target.path.at(target.image, epsilon), storage)
        return Shown(target.image, stored, target.label, target.bits)

    def picture(self, kind: str, place: int, case: int, epsilon: float, storage: str, times: float) -> bytes:
        """Return an 8-bit PNG, grey where all planes agree: an image rounded to 8 bits, or `times` the difference.

        Of a difference grey level 128 is none.
        """
        shown = self.shown(place, case, epsilon, storage)
        if kind == "difference":
            levels = 128 + 255 * times * (shown.adversarial - shown.original)
        else:
            levels = 255 * (shown.original if kind == "original" else shown.adversarial)
        return png(levels.clamp(0, 255))

    def values(self, kind: str, place: int, case: int, epsilon: float, storage: str) -> bytes:
        """Return a shown image as float32, little-endian, from 0 to 1: one plane if all agree, or three."""
        shown = self.shown(place, case, epsilon, storage)
        planes = (shown.original if kind == "original" else shown.adversarial).numpy().astype("<f4")  # (3, H, W)
        content: bytes = (planes[:1] if (planes == planes[0]).all() else planes).tobytes()
        return content

    def _levels_of(self, curve: Curve, case: int) -> int:
        """Return the steps between black and white of a case's source."""
        case_id = curve.case_ids[case]
        record = next(each for each in curve.cells[case_id].shard.records if each.case_id == case_id)
        if record.sha256 not in self._source_levels:
            self._source_levels[record.sha256] = 2 ** record.read().bits - 1
        return self._source_levels[record.sha256]

    def _curve(self, place: int) -> Curve:
        if place >= len(self._curves):
            raise NotThere(f"curve must be below {len(self._curves)}, got {place}.")
        return self._curves[place]

    def _curve_facts(self, curve: Curve) -> dict[str, Any]:
        cohort, protocol, seed, model, preset = curve.key
        asked = curve.setting.preset
        return {
            "cohort": cohort,
            "protocol": protocol,
            "seed": seed,
            "model": model_name(model),
            "attack": change_title(preset) if asked.is_physical else attack_title(preset),
            "classes": list(curve.classifier.classes),
            "epsilons": [] if asked.is_physical else [epsilon for epsilon in curve.setting.epsilons if epsilon > 0],
            "severities": list(asked.severities),
            "unit": asked.unit,
            "storages": list(curve.setting.preset.storages),
            "size_px": curve.classifier.size_px,
            "n": len(curve.case_ids),
        }

    def _flips_of(self, curve: Curve) -> dict[str, dict[str, Any]]:
        """Return the rows of the flip table of a curve's first storage, by case id."""
        table = _rows_of(curve, self._flips)
        return {
            str(row["case_id"]): {str(key): value for key, value in row.items()} for row in table.to_dict("records")
        }

    def _severities_of(self, curve: Curve) -> dict[str, dict[str, Any]]:
        """Return the same of a physical change: the first severity asked at which each case is answered wrongly."""
        severities = curve.setting.preset.severities
        rows = _rows_of(curve, self._physical)
        rows = rows[rows["status"] == "ok"]
        flips = flips_of(rows.assign(epsilon=rows["severity"].map(severities.index).astype(float)))
        found = {}
        for row in records(flips):
            place = row["flip_epsilon"]
            found[str(row["case_id"])] = row | {"flip_epsilon": None if pd.isna(place) else severities[int(place)]}
        return found


def _rows_of(curve: Curve, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a curve in a table, as its first storage leaves images."""
    names: dict[str, Any] = {**curve.key._asdict(), "storage": curve.setting.preset.storages[0]}
    for name, value in names.items():
        if name in table:
            table = table[table[name] == value]
    return table


def explorer_router(explorer: Explorer) -> APIRouter:
    """Return the routes of the explorer, all below /api/explorer."""
    router = APIRouter(prefix="/api/explorer")

    @router.get("/run")
    def run() -> dict[str, Any]:
        return explorer.run()

    @router.get("/cases")
    def cases(curve: Place) -> list[dict[str, Any]]:
        return explorer.cases(curve)

    @router.get("/answer")
    def answer(curve: Place, case: Place, epsilon: Dose, storage: StorageName = "float") -> dict[str, Any]:
        return explorer.answer(curve, case, epsilon, storage)

    @router.get("/image/{kind}")
    def image(
        kind: str, curve: Place, case: Place, epsilon: Dose, storage: StorageName = "float", times: Times = 20
    ) -> Response:
        if kind not in KINDS:
            raise NotThere(f"an image is one of {', '.join(KINDS)}, got '{kind}'.")
        content = explorer.picture(kind, curve, case, epsilon, storage, times)
        return Response(content, media_type="image/png")

    @router.get("/values/{kind}")
    def values(kind: str, curve: Place, case: Place, epsilon: Dose, storage: StorageName = "float") -> Response:
        if kind not in KINDS[:2]:
            raise NotThere(f"values are those of {' or '.join(KINDS[:2])}, got '{kind}'.")
        return Response(explorer.values(kind, curve, case, epsilon, storage), media_type="application/octet-stream")

    return router
