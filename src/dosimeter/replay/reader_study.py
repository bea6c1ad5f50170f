"""A reader study, made from a finished run: its pairs are drawn once, as shown, so that serving them needs no torch."""

import hashlib
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from dosimeter.analysis.base import answered, clean_answers
from dosimeter.attacks.doses import perturb
from dosimeter.attacks.known.random_sign import RandomSign
from dosimeter.errors import DosimeterError
from dosimeter.files import is_free
from dosimeter.progress import Progress
from dosimeter.readers.design import Design, Kind, Pair, write_design
from dosimeter.readers.store import Store
from dosimeter.record import table as responses
from dosimeter.replay.replay import Curve, Replay
from dosimeter.sweeps.answers import Target
from dosimeter.units import GREY_LEVELS_8BIT

N_PRACTICE = 4
"""Images shown for practice, twice each."""

PRACTICE_EPSILON = 16 / 255
"""What practice shows, or the study's largest epsilon if that is larger: it should be seen."""

Levels = npt.NDArray[np.uint8]
"""An image as it is shown, (H, W, 3), 8 bits."""


class Options(NamedTuple):
    """What a study is to show.

    Attributes:
        epsilons: two at least; 0 does not count.
        n_images: the study proper's, beside those for practice.
        curve: what the curve's cohort, protocol, seed, model and preset must be, as far as that is said.
        seed: of the choice of images, sides and orders.
        window: whether readers may change the grey window.
        break_every: trials between two breaks.
    """

    epsilons: Sequence[float]
    n_images: int = 20
    curve: Mapping[str, str | int] = {}
    seed: int = 0
    window: Literal["locked", "free"] = "locked"
    break_every: int = 40


def make_study(
    run: Path, out: Path, options: Options, *, data: Path | None = None, trust: bool = False, progress: Progress
) -> Design:
    """Make the folder of a reader study: its design, its images, and an empty store of answers.

    Shown are test images that the classifier answers correctly without attack, chosen at random; at every epsilon
    each is shown as the attack left it and with random signs, beside itself as it is; and once beside its equal.

    Args:
        run: the finished run's folder.
        out: the study's, absent or empty; after an error it is as it was.
        options: what it is to show.
        data: the folder of the real images, if it has moved since the run.
        trust: see `Replay`.
        progress: told of every image.

    Raises:
        DosimeterError: an option is unusable, `out` is not empty, or the run's images cannot be made again.
    """
    epsilons = _checked(options, out)
    replay = Replay(run, data=data, trust=trust)
    curve = _choose(replay, options.curve)
    cases = _cases(run, curve, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        draft = Path(name) / "study"
        (draft / "images").mkdir(parents=True)
        album = _Album(replay, curve, options.seed)
        progress.begin("drawing the pairs", len(cases))
        practice, pairs = [], []
        for case_id in sorted(cases, key=curve.case_ids.index):  # neighbours are attacked together
            if case_id in cases[:N_PRACTICE]:
                practice += album.pairs(case_id, [max(PRACTICE_EPSILON, epsilons[-1])])
            else:
                pairs += [*album.pairs(case_id, epsilons), album.catch(case_id)]
            progress.advance()
        design = Design(
            study_id=secrets.token_hex(4),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            run_id=replay.meta["run_id"],
            phantom=bool(replay.meta["phantom"]),
            curve=curve.key._asdict(),
            epsilons=epsilons,
            seed=options.seed,
            window=options.window,
            break_every=options.break_every,
            practice=tuple(practice),
            pairs=tuple(pairs),
            images=album.write(draft / "images"),
        )
        write_design(design, draft)
        Store(draft, design).close()
        if out.exists():
            out.rmdir()
        draft.rename(out)
    return design


def _checked(options: Options, out: Path) -> tuple[float, ...]:
    """Return the epsilons, ascending; raise DosimeterError if an option is unusable."""
    epsilons = tuple(sorted({float(epsilon) for epsilon in options.epsilons if epsilon > 0}))
    if len(epsilons) < 2:
        raise DosimeterError(
            "epsilons must name at least two above 0, or no threshold can be found. Try 0.003,0.009,0.03."
        )
    for name, value in (("images", options.n_images), ("break-every", options.break_every)):
        if value < 1:
            raise DosimeterError(f"{name} must be at least 1, got {value}.")
    if not is_free(out):
        raise DosimeterError(f"out: {out} is not empty. Give a new folder with --out.")
    return epsilons


def _choose(replay: Replay, wanted: Mapping[str, str | int]) -> Curve:
    """Return the run's curve that fits `wanted`; of several the one of preset "sound", if that leaves one."""
    found = [curve for key, curve in replay.curves.items() if wanted.items() <= key._asdict().items()]
    if "preset" not in wanted and len(found) > 1:
        found = [curve for curve in found if curve.key.preset == "sound"] or found
    if len(found) == 1:
        return found[0]
    known = "; ".join(" ".join(map(str, key)) for key in replay.curves)
    raise DosimeterError(
        f"the study shows one attack on one classifier, {len(found)} of the run fit. Choose with --cohort, --protocol, "
        f"--seed, --model and --preset from: {known}."
    )


def _cases(run: Path, curve: Curve, options: Options) -> list[str]:
    """Return the cases to show, those for practice first: of those answered correctly without attack, at random."""
    key = curve.key
    rows = clean_answers(answered(responses.read_compact(run / "responses.parquet").frame))
    for name in ("cohort", "protocol", "seed", "model"):
        rows = rows[rows[name] == getattr(key, name)]
    correct = sorted(set(rows.loc[rows["correct"], "case_id"]) & set(curve.case_ids))
    n = N_PRACTICE + options.n_images
    if n > len(correct):
        most = len(correct) - N_PRACTICE
        remedy = f"Try --images {most}." if most > 0 else "Choose a larger cohort."
        raise DosimeterError(
            f"images: {options.n_images} and {N_PRACTICE} for practice are more than the {len(correct)} test images "
            f"that {key.model} answers correctly. {remedy}"
        )
    return [correct[place] for place in np.random.default_rng(options.seed).permutation(len(correct))[:n]]


class _Album:
    """The images of a study as they are drawn, each once."""

    def __init__(self, replay: Replay, curve: Curve, seed: int) -> None:
        self._replay = replay
        self._curve = curve
        self._seed = seed
        self._images: list[Levels] = []
        self._places: dict[bytes, int] = {}

    def pairs(self, case_id: str, epsilons: Iterable[float]) -> list[Pair]:
        """Return a case's pairs of both kinds at every epsilon."""
        target = self._replay.target(self._curve, case_id)
        noise = self._noise(target)
        plain = self._put(target.image)
        shown: list[Pair] = []
        for epsilon in epsilons:
            attacked, moved = target.path.at(target.image, epsilon), perturb(target.image, noise, epsilon)
            shown.append(self._pair("adversarial", epsilon, case_id, plain, attacked))
            shown.append(self._pair("random", epsilon, case_id, plain, moved))
        return shown

    def catch(self, case_id: str) -> Pair:
        """Return the pair of a case and itself."""
        plain = self._put(self._replay.target(self._curve, case_id).image)
        return Pair("catch", 0.0, case_id, plain, plain, 0.0)

    def write(self, folder: Path) -> tuple[str, ...]:
        """Write the images and return their digests: grey if all are grey, and all of the same number of bytes."""
        grey = all((image == image[..., :1]).all() for image in self._images)
        digests = []
        for place, image in enumerate(self._images):
            path = folder / f"{place:04d}.png"
            shown = Image.fromarray(image[..., 0] if grey else image)
            shown.save(path, compress_level=0)  # compressed, noise would give itself away by its size
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        return tuple(digests)

    def _pair(self, kind: Kind, epsilon: float, case_id: str, plain: int, image: torch.Tensor) -> Pair:
        altered = self._put(image)
        changed = (self._images[altered] != self._images[plain]).any(axis=-1).mean()
        return Pair(kind, epsilon, case_id, plain, altered, float(changed))

    def _put(self, image: torch.Tensor) -> int:
        """Keep an image (3, H, W) as it is shown and return its place; equal images share one."""
        levels = (image.permute(1, 2, 0) * GREY_LEVELS_8BIT).round().to(torch.uint8).cpu().numpy()
        place = self._places.setdefault(levels.tobytes(), len(self._images))
        if place == len(self._images):
            self._images.append(levels)
        return place

    def _noise(self, target: Target) -> torch.Tensor:
        """Return random signs (3, H, W), grey if the attack's are."""
        setting = self._curve.setting
        attack = setting.preset.attack
        labels = torch.tensor([target.label])
        problem = setting.threat.problem(self._curve.classifier, target.image[None], labels, seed=self._seed)
        sign = RandomSign(channels="free" if attack.channels == "free" else "tied").direction(problem).sign
        return sign[0]


def blind_epsilons(design: Design) -> list[float]:
    """Return the epsilons at which no altered image differs from its original in 8 bits: nothing is there to see."""
    return [
        epsilon
        for epsilon in design.epsilons
        if not any(pair.changed for pair in design.pairs if pair.epsilon == epsilon)
    ]
