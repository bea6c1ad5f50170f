"""Figures 6 and 11: an image, its perturbation and the adversarial image, pixel for pixel.

One pixel of the image is one pixel of the PNG file, so what can be seen is what is there.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from dosimeter.analysis import paper
from dosimeter.presentation.style import BLACK, DPI, GREY, VERMILLION, shorten, styled
from dosimeter.record.scores import FloatArray, class_probabilities
from dosimeter.units import GREY_LEVELS_8BIT

Pixels = FloatArray

GAP_PX, LEFT_PX, HEAD_PX, FOOT_PX = 12, 8, 34, 46


class Triptych(NamedTuple):
    """One row of the figure.

    Attributes:
        title: which attack and why this epsilon.
        epsilon: the dose, above 0.
        original: (H, W) or (H, W, 3) in [0, 1].
        direction: of the perturbation, same shape or with a channel axis, in {-1, 0, 1}.
        before: probability of each class for the original, (classes,).
        after: the same for the adversarial image.
        label: the true class.
    """

    title: str
    epsilon: float
    original: Pixels
    direction: Pixels
    before: FloatArray
    after: FloatArray
    label: int

    @property
    def adversarial(self) -> Pixels:
        """The image after the attack, (H, W) or (H, W, 3) in [0, 1]."""
        return adversarial_image(self.original, self.direction, self.epsilon)


def adversarial_image(original: Pixels, direction: Pixels, epsilon: float) -> Pixels:
    """Return clip(original + epsilon * direction, 0, 1); a grey image under a coloured direction becomes coloured."""
    if direction.ndim > original.ndim:
        original = original[..., None]
    elif original.ndim > direction.ndim:
        direction = direction[..., None]
    return np.clip(original + epsilon * direction, 0, 1)


def triptychs(exemplars: Sequence[Mapping[str, Any]], answers: pd.DataFrame, doses: pd.DataFrame) -> list[Triptych]:
    """Return the rows to draw for one model: of every preset at its smallest misclassifying epsilon and a larger one.

    Args:
        exemplars: the run's `meta["exemplars"]` of one cohort, protocol and model.
        answers: rows of the same in float storage, as `analysis.base.answered` returns them.
        doses: preset, case_id, flip_epsilon, visible_epsilon, as `analysis.exemplars.choose_exemplar` returns them.
    """
    rows = []
    for exemplar in exemplars:
        preset, case_id = exemplar["preset"], exemplar["case_id"]
        mine = answers[(answers["preset"] == preset) & (answers["case_id"] == case_id)]
        mine = mine.drop_duplicates("epsilon")
        probabilities = dict(zip(mine["epsilon"], class_probabilities(mine), strict=True))
        chosen = doses[(doses["preset"] == preset) & (doses["case_id"] == case_id)]
        if chosen.empty or not probabilities:
            continue
        called = paper.shown(exemplar["cohort"], exemplar["model"]).get("visible_epsilon")
        for column in ("flip_epsilon", "visible_epsilon"):
            epsilon = float(chosen[column].iloc[0])
            reason = (
                "smallest flip" if column == "flip_epsilon" else "paper’s visible" if epsilon == called else "largest"
            )
            if epsilon not in probabilities:
                continue
            rows.append(
                Triptych(
                    title=f"{preset} preset, {reason} epsilon",
                    epsilon=epsilon,
                    original=_decode(exemplar["original_png"]) / 255,
                    direction=np.rint(_decode(exemplar["direction_png"]) / 127.5 - 1),
                    before=probabilities[0.0],
                    after=probabilities[epsilon],
                    label=int(mine["label"].iloc[0]),
                )
            )
    return rows


@styled
def adversarial_pictures(rows: Sequence[Triptych], classes: Sequence[str]) -> Figure:
    """Draw original, perturbation and adversarial image side by side, one row a `Triptych`.

    The perturbation is shown as its sign (white adds, black takes away, mid-grey leaves alone).

    Args:
        rows: at least one.
        classes: their names.
    """
    height, width = rows[0].original.shape[:2]
    total_width = 2 * LEFT_PX + 3 * width + 2 * GAP_PX
    row_height = HEAD_PX + height + FOOT_PX
    total_height = row_height * len(rows)
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)

    def write(x: float, y: float, text: str, **options: Any) -> None:
        figure.text(x / total_width, 1 - y / total_height, text, va="top", **options)

    for index, row in enumerate(rows):
        top = index * row_height
        levels = row.epsilon * GREY_LEVELS_8BIT
        title = f"{row.title} {row.epsilon:.3g} ({levels:.3g} grey levels)"
        write(LEFT_PX, top + 8, title, fontsize=7.8, weight="bold", color=BLACK)
        columns = (
            (row.original, "original", *_answer(row.before, row.label, classes)),
            ((row.direction + 1) / 2, "perturbation", f"its sign, amplified ×{_factor(0.5 / row.epsilon)}", GREY),
            (row.adversarial, "adversarial", *_answer(row.after, row.label, classes)),
        )
        for column, (pixels, name, text, color) in enumerate(columns):
            left = LEFT_PX + column * (width + GAP_PX)
            bottom = total_height - top - HEAD_PX - height
            box = (left / total_width, bottom / total_height, width / total_width, height / total_height)
            ax = figure.add_axes(box)
            ax.imshow(_levels(pixels), interpolation="none", aspect="auto")
            ax.set_axis_off()
            write(left, top + HEAD_PX + height + 4, name, fontsize=7.5, color=BLACK)
            write(left, top + HEAD_PX + height + 20, text, fontsize=7.5, color=color)
    return figure


def _answer(probabilities: FloatArray, label: int, classes: Sequence[str]) -> tuple[str, str]:
    predicted = int(probabilities.argmax())
    share = probabilities[predicted]
    verdict, color = ("right", BLACK) if predicted == label else ("wrong", VERMILLION)
    return f"{shorten(classes[predicted], 14)} {share:.3f}, {verdict}", color


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _decode(png: str) -> Pixels:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return np.asarray(image, dtype=np.float64)  # (H, W) or (H, W, 3)


def _levels(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return 8-bit RGB; matplotlib's grey colour map is off by one level here and there."""
    planes = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return np.rint(planes * 255).astype(np.uint8)
