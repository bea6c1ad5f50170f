"""The design of a reader study: which pairs are shown, on which side, in what order.

A trial shows two images and asks which was altered. One is the image as it is; the other moved by epsilon, by an
attack ("adversarial") or by chance ("random", the control). In a catch trial both are the same image: nothing can be
seen, and which side a reader then prefers is that reader's bias.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dosimeter.errors import DosimeterError
from dosimeter.files import json_in, write_text

DESIGN_VERSION = 1
FILE = "design.json"

Kind = Literal["adversarial", "random", "catch"]
KIND_NAMES: Mapping[str, str] = {"adversarial": "adversarial", "random": "random signs", "catch": "catch trials"}


class Pair(NamedTuple):
    """Two images to tell apart.

    Attributes:
        kind: what was done to the altered one.
        epsilon: by how much; 0 in a catch trial.
        case_id: the case, as the run calls it.
        plain, altered: places in the study's images; the same one in a catch trial.
        changed: the share of pixels that differ as they are shown, in 8 bits.
    """

    kind: Kind
    epsilon: float
    case_id: str
    plain: int
    altered: int
    changed: float


class Trial(NamedTuple):
    """A pair as one reader sees it: its place in the design's practice or pairs, and the altered image's side."""

    pair: int
    practice: bool
    altered: Literal["left", "right"]


@dataclass(frozen=True)
class Design:
    """A study, fixed when it is made.

    Attributes:
        study_id: names it in every output.
        created: ISO-8601 time.
        run_id: the run whose images are shown.
        phantom: whether they are computer-generated.
        curve: cohort, protocol, seed, model and preset of the attack.
        epsilons: ascending, without 0.
        seed: of sides and orders.
        window: whether readers may change the grey window ("free") or not ("locked").
        break_every: trials between two breaks.
        practice: pairs shown first, with feedback, not counted.
        pairs: the study proper.
        images: SHA-256 of each PNG.
    """

    study_id: str
    created: str
    run_id: str
    phantom: bool
    curve: Mapping[str, str | int]
    epsilons: tuple[float, ...]
    seed: int
    window: Literal["locked", "free"]
    break_every: int
    practice: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    images: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        facts = asdict(self)  # leaves the pairs as they are
        for name in ("practice", "pairs"):
            facts[name] = [Pair(*pair)._asdict() for pair in facts[name]]
        return {"version": DESIGN_VERSION, **facts, "epsilons": list(self.epsilons), "images": list(self.images)}

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def pair(self, trial: Trial) -> Pair:
        """Return the pair that a trial shows."""
        return (self.practice if trial.practice else self.pairs)[trial.pair]


_DESIGN = TypeAdapter(Design)


def write_design(design: Design, folder: Path) -> None:
    """Write design.json with its digest."""
    facts = {**design.to_dict(), "digest": design.digest}
    write_text(folder / FILE, json.dumps(facts, indent=1) + "\n")


def read_design(folder: Path) -> Design:
    """Read the design of a study.

    Raises:
        DosimeterError: there is none, it is damaged, of a newer version, or was edited.
    """
    path = folder / FILE
    try:
        facts = json_in(path)
        version, digest = int(facts.pop("version")), facts.pop("digest")
    except FileNotFoundError:
        raise DosimeterError(
            f"{folder} is no reader study: it has no {FILE}. Make one with `dosimeter readers new RUN --out STUDY`."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DosimeterError(f"{path} is damaged. Put back the file as `dosimeter readers new` wrote it.") from error
    if version > DESIGN_VERSION:
        raise DosimeterError(f"{path} has version {version}, this dosimeter reads {DESIGN_VERSION}. Upgrade dosimeter.")
    try:
        design = _DESIGN.validate_json(json.dumps(facts), strict=True)
    except ValidationError as error:
        raise DosimeterError(_edited(path)) from error
    if design.digest != digest or set(facts) != {field.name for field in fields(Design)}:
        raise DosimeterError(_edited(path))
    if impossible := _impossible(design):
        raise DosimeterError(f"{path} describes no study: {impossible}. Make one with `dosimeter readers new`.")
    return design


def _impossible(design: Design) -> str:
    """Return why a design cannot be shown, "" if it can."""
    if not design.pairs or not design.epsilons:
        return "it has no pairs"
    for pair in (*design.practice, *design.pairs):
        if not (0 <= pair.plain < len(design.images) and 0 <= pair.altered < len(design.images)):
            return f"it has {len(design.images)} images, a pair shows {pair.plain} and {pair.altered}"
    if strange := [pair for pair in design.pairs if pair.kind != "catch" and pair.epsilon not in design.epsilons]:
        return f"a pair's epsilon {strange[0].epsilon:g} is not among its epsilons"
    if design.break_every < 1:
        return f"break_every must be 1 or more, got {design.break_every}"
    return ""


def _edited(path: Path) -> str:
    return (
        f"{path} was edited after the study was made, so its answers would no longer belong to one design. Put back "
        "the file as it was, or make a new study; answers that were saved are kept."
    )


def schedule(design: Design, reader: int) -> list[Trial]:
    """Return what a reader sees, in order: the practice, then every pair once.

    Of each kind and epsilon the altered image is on the left in half of the trials, and no two trials in a row show
    the same case if that can be helped. Readers are counterbalanced in couples: the second of a couple has the sides
    swapped and the order reversed.

    Args:
        design: the study.
        reader: its number, from 1.
    """
    couple, second = divmod(reader - 1, 2)
    rng = np.random.default_rng([design.seed, couple])
    left = _sides(design.pairs, rng)
    order = _order(design.pairs, rng)
    if second:
        left, order = [not each for each in left], order[::-1]
    practice = _sides(design.practice, rng)
    return [
        *(Trial(pair, True, _side(practice[pair])) for pair in range(len(design.practice))),
        *(Trial(pair, False, _side(left[pair])) for pair in order),
    ]


def _side(left: bool) -> Literal["left", "right"]:
    return "left" if left else "right"


def _sides(pairs: Sequence[Pair], rng: np.random.Generator) -> list[bool]:
    """Return for each pair whether the altered image is on the left: half of each kind and epsilon."""
    left = [False] * len(pairs)
    groups: dict[tuple[str, float], list[int]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault((pair.kind, pair.epsilon), []).append(place)
    for places in groups.values():
        first = int(rng.integers(2))  # which side has one more where the number is odd
        for index, place in enumerate(rng.permutation(places)):
            left[place] = (index + first) % 2 == 0
    return left


def _order(pairs: Sequence[Pair], rng: np.random.Generator) -> list[int]:
    """Return the places of `pairs` in rounds, each of which shows every case that has one left, in random order."""
    waiting: dict[str, list[int]] = {}
    for place in rng.permutation(len(pairs)):
        waiting.setdefault(pairs[place].case_id, []).append(int(place))
    order: list[int] = []
    while waiting:
        cases = [str(case) for case in rng.permutation(list(waiting))]
        if order and cases[0] == pairs[order[-1]].case_id:
            cases = [*cases[1:], cases[0]]
        order += [waiting[case].pop() for case in cases]
        waiting = {case: places for case, places in waiting.items() if places}
    return order
