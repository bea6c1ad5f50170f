"""What the explorer shows: a run's images as they were evaluated, and the answers about them.

Everything is looked up by its place: the browser names no file, no case and no patient. Images travel as PNG in data
URLs, so that an answer and the image it is about arrive together, and a written-out explorer holds the same.
"""

import base64
import io
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from fastapi import APIRouter
from PIL import Image
from torch import Tensor

from dosimeter import responses
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.analysis.wording import model_name
from dosimeter.app.server import NotThere
from dosimeter.attacks.storage import STORAGES
from dosimeter.engines.base import TorchEngine
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.replay import Curve, CurveKey, Replay
from dosimeter.sweeps.answers import Target
from dosimeter.units import GREY_LEVELS_8BIT, Epsilon

LEVELS = 65_535
"""Steps between black and white in the values that are sent beside the 8-bit images."""

OFFSET = 65_536
"""Added to differences of such values, so that none is negative."""

ANSWERS_KEPT = 4096
_ON_LEVEL = 1e-3  # of a grey level: nearer than this is on it

Integers = npt.NDArray[np.int64]
Item = TypeVar("Item")


class Said(NamedTuple):
    """The classifier's answer about one image."""

    probabilities: list[float]
    predicted: int
    is_row: bool


class Explorer:
    """A finished run, as the explorer asks about it. Safe to use from several threads.

    Args:
        replay: makes its images.
    """

    def __init__(self, replay: Replay) -> None:
        self._curves = [_Explored(curve, rows) for curve, rows in _with_rows(replay)]
        self._replay = replay

    def run(self) -> dict[str, Any]:
        """Return what there is to choose from."""
        meta = self._replay.meta
        return {
            "phantom": bool(meta.get("phantom")),
            "run_id": meta.get("run_id", ""),
            "version": meta.get("dosimeter_version", ""),
            "storages": list(STORAGES),
            "levels": LEVELS,
            "offset": OFFSET,
            "curves": [explored.facts() for explored in self._curves],
        }

    def cases(self, curve: int, storage: str) -> dict[str, Any]:
        """Return the test images of a curve with their flip epsilons, as stored where the run has rows of it."""
        explored = self._curve(curve)
        return explored.cases(_known(storage))

    def view(self, curve: int, case: int, storage: str) -> dict[str, Any]:
        """Return an unperturbed image."""
        target = self._target(curve, case)
        image = _store(target.image, storage)
        return {
            "label": target.label,
            "image": png(to_8_bits(image)),
            "values": png(packed(to_16_bits(image))),
            "finer": is_finer_than_8_bits(image),
        }

    def point(self, curve: int, case: int, storage: str, epsilon: float | str) -> dict[str, Any]:
        """Return an adversarial image and the classifier's answer about it.

        Where the run asked about this very image its row is the answer; elsewhere the classifier is asked now.
        """
        dose = float(Epsilon(epsilon))
        target = self._target(curve, case)
        unperturbed = _store(target.image, storage)
        image = _store(target.path.at(target.image, dose), storage)
        said = self._curves[curve].answer(target.case_id, storage, dose, image)
        return {
            "epsilon": dose,
            "image": png(to_8_bits(image)),
            "difference": png(packed(to_16_bits(image) - to_16_bits(unperturbed) + OFFSET)),
            "finer": is_finer_than_8_bits(image),
            "linf": float((image - target.image).abs().amax()),
            "unchanged": torch.equal(image, unperturbed),
            "probabilities": said.probabilities,
            "predicted": said.predicted,
            "correct": said.predicted == target.label,
            "from_run": said.is_row,
        }

    def _curve(self, place: int) -> "_Explored":
        return _at(self._curves, place, "curve")

    def _target(self, curve: int, case: int) -> Target:
        explored = self._curve(curve)
        return self._replay.target(explored.curve, _at(explored.curve.case_ids, case, "image"))


class _Explored:
    """One curve with its rows, and the answers that were asked for since."""

    def __init__(self, curve: Curve, rows: pd.DataFrame) -> None:
        self.curve = curve
        self._rows = rows
        self._engine = TorchEngine(curve.classifier)
        self._asked: OrderedDict[tuple[str, str, float], Said] = OrderedDict()
        self._lock = Lock()

    def facts(self) -> dict[str, Any]:
        key, trial = self.curve.key, self.curve.trial
        name, colon, _ = key.cohort.partition(":")
        return {
            **key._asdict(),
            "cohort": f"your images ({name})" if colon else key.cohort,  # a folder may name a person
            "classifier": model_name(key.model),
            "classes": list(trial.cohort.classes),
            "epsilons": list(self.curve.epsilons),
            "storages": list(self.curve.storages),
            "size_px": self.curve.classifier.size_px,
            "n_cases": len(self.curve.case_ids),
        }

    def cases(self, storage: str) -> dict[str, Any]:
        listed = storage if storage in self.curve.storages else self.curve.storages[0]
        flips = self._flips[self._flips["storage"] == listed].set_index("case_id")
        labels = {record.case_id: record.label for record in self.curve.trial.split.test.records}
        cases = []
        for place, case_id in enumerate(self.curve.case_ids):
            known = case_id in flips.index
            flip = flips["flip_epsilon"][case_id] if known else np.nan
            correct = bool(flips["correct_at_zero"][case_id]) if known else None
            cases.append(
                {
                    "index": place,
                    "case_id": case_id,
                    "label": labels[case_id],
                    "correct": correct,
                    "flip": None if np.isnan(flip) else float(flip),
                }
            )
        return {"storage": listed, "cases": cases}

    def answer(self, case_id: str, storage: str, epsilon: float, image: Tensor) -> Said:
        """Return the run's answer about `image` (3, H, W), or the classifier's if the run has none."""
        key = (case_id, storage, epsilon)
        if key in self._answers:
            positive, predicted = self._answers[key]
            return Said([1 - positive, positive], predicted, is_row=True)
        with self._lock:
            if key not in self._asked:
                logits = self._engine.logits(image[None])[0]
                shares = torch.softmax(logits.double(), dim=0).tolist()
                self._asked[key] = Said(shares, int(logits.argmax()), is_row=False)
                while len(self._asked) > ANSWERS_KEPT:
                    self._asked.popitem(last=False)
            return self._asked[key]

    @cached_property
    def _flips(self) -> pd.DataFrame:
        return flip_epsilon(self._rows)

    @cached_property
    def _answers(self) -> dict[tuple[str, str, float], tuple[float, int]]:
        names = ("case_id", "storage", "epsilon", "probability", "predicted")
        columns = [self._rows[name].tolist() for name in names]
        return {(case, storage, dose): (share, said) for case, storage, dose, share, said in zip(*columns, strict=True)}


def explorer_router(explorer: Explorer) -> APIRouter:
    """Return what the explorer's page asks."""
    router = APIRouter(prefix="/api")

    @router.get("/run")
    def run() -> dict[str, Any]:
        return explorer.run()

    @router.get("/curves/{curve}/cases")
    def cases(curve: int, storage: str = "float") -> dict[str, Any]:
        return explorer.cases(curve, storage)

    @router.get("/curves/{curve}/cases/{case}/{storage}")
    def view(curve: int, case: int, storage: str) -> dict[str, Any]:
        return explorer.view(curve, case, storage)

    @router.get("/curves/{curve}/cases/{case}/{storage}/point")
    def point(curve: int, case: int, storage: str, epsilon: str) -> dict[str, Any]:
        return explorer.point(curve, case, storage, epsilon)

    return router


def to_8_bits(image: Tensor) -> Integers:
    """Return the grey levels (planes, H, W), 0 to 255, of an image (3, H, W) in [0, 1]; one plane if all are equal."""
    return _levels(image, GREY_LEVELS_8BIT)


def to_16_bits(image: Tensor) -> Integers:
    """Return the values (3, H, W), 0 to `LEVELS`, of an image (3, H, W) in [0, 1]."""
    levels: Integers = (image.double() * LEVELS).round().long().numpy()
    return levels


def is_finer_than_8_bits(image: Tensor) -> bool:
    """Return whether an image in [0, 1] has values between the levels of an 8-bit file."""
    levels = image.double() * GREY_LEVELS_8BIT
    return bool(((levels - levels.round()).abs() > _ON_LEVEL).any())


def packed(values: Integers) -> npt.NDArray[np.uint8]:
    """Return values (3, H, W) below 2**24 as pixels (3, planes * H, W) of an 8-bit image, high byte in red.

    Planes stand one below the other; equal ones are sent once. A browser decodes 16-bit PNG to 8 bits, hence this.
    """
    kept = values[:1] if (values == values[:1]).all() else values
    column = kept.reshape(-1, kept.shape[-1])
    return np.stack([column >> 16, column >> 8 & 255, column & 255]).astype(np.uint8)


def png(planes: npt.NDArray[np.integer]) -> str:
    """Return (1 or 3, H, W), 0 to 255, as the data URL of a PNG without a colour profile."""
    pixels = planes.astype(np.uint8)
    picture = Image.fromarray(pixels[0]) if len(pixels) == 1 else Image.fromarray(np.moveaxis(pixels, 0, -1).copy())
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _levels(image: Tensor, top: int) -> Integers:
    levels: Integers = (image.double() * top).round().long().numpy()
    return levels[:1] if (levels == levels[:1]).all() else levels


def _with_rows(replay: Replay) -> list[tuple[Curve, pd.DataFrame]]:
    frame = responses.read_compact(replay.folder / "responses.parquet").frame
    frame = frame[(frame["status"] == "ok") & (frame["made_on"] == "")]
    by_key = {CurveKey(*key): rows for key, rows in frame.groupby(list(CurveKey._fields), observed=True)}
    return [(curve, by_key[key]) for key, curve in replay.curves.items() if key in by_key]


def _store(image: Tensor, storage: str) -> Tensor:
    return STORAGES[_known(storage)](image.clone())


def _known(storage: str) -> str:
    if storage not in STORAGES:
        raise DosimeterError(f"storage '{storage[:40]}' is not known. {did_you_mean(storage[:40], STORAGES)}")
    return storage


def _at(items: Sequence[Item], place: int, what: str) -> Item:
    if not 0 <= place < len(items):
        raise NotThere(f"{what} must be from 0 to {len(items) - 1}, got {place}.")
    return items[place]
