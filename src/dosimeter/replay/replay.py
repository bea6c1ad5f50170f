"""The images of a finished run, made again exactly as they were evaluated.

The explorer, the reader study and `export` show and write images; the response table holds none. They are made from the
run's own classifiers and settings, and from the cohort's images, which must be where they were.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dosimeter.cohorts.trials import Trial
from dosimeter.defences.base import defend, defended_name, shows
from dosimeter.defences.saved import bring
from dosimeter.engines.base import Engine, EngineUnavailable, TorchEngine
from dosimeter.engines.choose import EnginePlan, build_engine
from dosimeter.errors import DosimeterError
from dosimeter.executors.base import pick_device
from dosimeter.models import fit
from dosimeter.models.base import Classifier
from dosimeter.models.rings import excess_of
from dosimeter.models.saved import load_classifier, read_card
from dosimeter.parallel import torch_threads
from dosimeter.record import table as responses
from dosimeter.record.finished import finished_table
from dosimeter.study.config import StudyConfig, load_config
from dosimeter.study.planning import plan_trial
from dosimeter.study.trials import plan_trials
from dosimeter.sweeps.answers import Target, on_grid
from dosimeter.sweeps.execute import aim_cell
from dosimeter.sweeps.plan import Cell, Setting

CELLS_KEPT, NATIVE_CELLS_KEPT = 16, 2
"""Attacked cells that a replay holds in memory, four images each, or one image of its own size."""


class CurveKey(NamedTuple):
    """What names one curve of a run."""

    cohort: str
    protocol: str
    seed: int
    model: str
    preset: str


class Said(NamedTuple):
    """What a classifier says of an image: the probability of each class, and whether it refuses to answer."""

    probabilities: list[float]
    refused: bool

    @property
    def predicted(self) -> int:
        """The class with the highest probability, of a refused image too."""
        return self.probabilities.index(max(self.probabilities))


@dataclass(frozen=True, eq=False)
class Curve:
    """One classifier under one preset on one test set.

    Attributes:
        key: its name.
        trial: the cohort and its split.
        classifier: as it was evaluated.
        engine: whose gradients the attack followed.
        cells: what was executed, by case id.
    """

    key: CurveKey
    trial: Trial
    classifier: Classifier
    engine: Engine
    cells: Mapping[str, Cell]

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The test cases, in order."""
        return tuple(self.cells)

    @property
    def setting(self) -> Setting:
        """What all its cells have in common: preset, epsilons, storages."""
        return next(iter(self.cells.values())).setting

    def said(self, image: Tensor, storage: str = "float", *, bits: int = 8) -> Said:
        """Return what the classifier says of an image (3, H, W) in [0, 1], as `storage` returned it.

        Args:
            bits: depth of its source (`Target.bits`), which matters to floats that are not on the classifier's grid.
        """
        grid = self.classifier.grid if self.setting.threat.native else self.classifier.grid.settled
        shown = on_grid(image, storage, grid=grid, bits=bits)
        with torch.inference_mode():
            outputs = self.classifier(shown[None].to(self.classifier.device)).double().cpu()
        refused = self.classifier.rejects and float(excess_of(outputs)) > 0
        logits = outputs[0, : len(self.classifier.classes)]
        return Said(torch.softmax(logits, dim=0).tolist(), refused)


class Replay:
    """A finished run whose images can be had again. Safe to use from several threads.

    `curves` are those of attacks, `changes` those of physical changes, which have severities in place of epsilons.

    Args:
        folder: the run's.
        data: the folder of the real images, if it has moved since.
        trust: let a model card run the code that it names, as it did for the run.

    Raises:
        DosimeterError: no finished run, images, weights or classifiers that are not there or are others, or another
            version of torch or Pillow: images would differ from those that were evaluated.

    Example:
        >>> replay = Replay(Path("runs/phantoms"))  # doctest: +SKIP
        >>> curve = next(iter(replay.curves.values()))  # doctest: +SKIP
        >>> target = replay.target(curve, curve.case_ids[0])  # doctest: +SKIP
        >>> adversarial = target.path.at(target.image, 0.003)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, *, data: Path | None = None, trust: bool = False) -> None:
        self.folder = folder
        table = finished_table(folder)
        self.meta = responses.read_meta(table)
        config = load_config(folder / "config.toml", data=data, trust=trust).resolved()
        self.config = config
        known = set(responses.read_column(table, "cell_id"))
        found = {curve.key: curve for curve in _curves(folder, config, self.meta, known)}
        self.curves = {key: curve for key, curve in found.items() if not curve.setting.preset.is_physical}
        self.changes = {key: curve for key, curve in found.items() if curve.setting.preset.is_physical}
        self._attacked: OrderedDict[str, dict[str, Target]] = OrderedDict()
        self._lock = RLock()

    def target(self, curve: Curve, case_id: str) -> Target:
        """Return a case with its adversarial images: `target.path.at(target.image, epsilon)`.

        Raises:
            DosimeterError: the curve has no such case, or its image cannot be read.
        """
        if case_id not in curve.cells:
            raise DosimeterError(f"case {case_id} is not among the test cases of {curve.key.cohort}.")
        cell = curve.cells[case_id]
        with self._lock:
            if cell.cell_id not in self._attacked:
                with torch_threads(1):  # as it was evaluated: threads move a gradient's last bits
                    targets = aim_cell(cell, curve.classifier, curve.engine)
                self._attacked[cell.cell_id] = {target.case_id: target for target in targets}
                while len(self._attacked) > (NATIVE_CELLS_KEPT if cell.setting.threat.native else CELLS_KEPT):
                    self._attacked.popitem(last=False)
            self._attacked.move_to_end(cell.cell_id)
            attacked = self._attacked[cell.cell_id]
        if case_id not in attacked:
            raise DosimeterError(f"the image of case {case_id} cannot be read, or its gradient is not finite.")
        return attacked[case_id]


def _curves(folder: Path, config: StudyConfig, meta: Mapping[str, Any], known: set[str]) -> Iterator[Curve]:
    digests = {(card["cohort"], card["protocol"], card["seed"]): card["sha256"] for card in meta["cohorts"]}
    trials, _ = plan_trials(config)
    for trial in trials:
        scope = (trial.cohort.name, trial.split.protocol, trial.split.seed)
        if digests.get(scope) != trial.cohort.sha256:
            raise DosimeterError(
                f"{folder}: the images of {trial.cohort.name} are not those that the run was made with. Name their "
                "folder with --data, or run the study again."
            )
    device = pick_device(config.device)
    for trial in trials:
        plans = {model: _plan(meta, trial, model) for model in _systems(config) if _has(meta, trial, model)}
        cards = {model: _card(meta, trial, model) for model in plans}
        for model, plan in plans.items():
            classifier = _classifier(folder, config, cards, model, trial, device)
            others = [other for other in plans if shows(cards[model], cards[other], transfer=config.transfer)]
            listeners = [(cards[other]["sha256"], plans[other]) for other in others]
            engine = _engine(plan, classifier)
            by_preset: dict[str, dict[str, Cell]] = {}
            for cell in plan_trial(config, folder, trial, classifier, plan, listeners):
                if cell.cell_id not in known:
                    raise DosimeterError(
                        f"{folder}: its images cannot be made again as they were evaluated, because torch, Pillow or "
                        "dosimeter have another version now. Run the study again."
                    )
                cells = by_preset.setdefault(cell.setting.preset.name, {})
                cells.update(dict.fromkeys((record.case_id for record in cell.shard.records), cell))
            for preset, cells in by_preset.items():
                key = CurveKey(trial.cohort.name, trial.split.protocol, trial.split.seed, model, preset)
                yield Curve(key, trial, classifier, engine, cells)


def _systems(config: StudyConfig) -> list[str]:
    """Return what tables call every model, and after it the same behind each defence."""
    return [name for model in config.names for name in (model, *(defended_name(model, d) for d in config.defence))]


def _facts(entries: list[dict[str, Any]], trial: Trial, model: str) -> dict[str, Any] | None:
    """Return the entry of a list in the run's metadata that is about `model` on `trial`."""
    scope = {**trial.scope, "model": model, "seed": trial.split.seed}
    return next((entry for entry in entries if scope.items() <= entry.items()), None)


def _has(meta: Mapping[str, Any], trial: Trial, model: str) -> bool:
    return _facts(meta["engines"], trial, model) is not None


def _plan(meta: Mapping[str, Any], trial: Trial, model: str) -> EnginePlan:
    return EnginePlan.from_dict(_facts(meta["engines"], trial, model) or {})


def _card(meta: Mapping[str, Any], trial: Trial, model: str) -> dict[str, Any]:
    card = _facts(meta["classifiers"], trial, model)
    assert card is not None, model
    return card


def _classifier(
    folder: Path, config: StudyConfig, cards: Mapping[str, dict[str, Any]], model: str, trial: Trial, device: str
) -> Classifier:
    """Return the classifier of the run that tables call `model`, by the run's cards."""
    card = cards[model]
    text = card.get("defence")
    if config.brought and model in config.names:
        classifier = bring(config.model[config.names.index(model)], trust=config.trust, device=device)
        if classifier.fingerprint != card["sha256"]:
            raise DosimeterError(f"{folder}: {card['model']} is another network now than the run was made with.")
        return classifier
    if text:
        bare = _classifier(folder, config, cards, model.removesuffix(defended_name("", text)), trial, device)
        defended = defend(bare, text, trial.split.train, seed=trial.split.seed, kept=folder / "learned")
        if defended.fingerprint != card["sha256"]:
            raise DosimeterError(f"{folder}: the defence {text} gives another network now than the run was made with.")
        return defended
    for file in sorted((folder / "classifiers").glob("*/card.json")):
        try:
            same = read_card(file.parent).sha256 == card["sha256"]
        except DosimeterError:  # damaged: if it was this one, the sentence below says what to do
            continue
        if same:
            model = card["model"]
            weights = fit.load_weights(model, file=config.weights.get(model), preprocessing=card["preprocessing"])
            return load_classifier(file.parent, weights=weights, device=device)
    raise DosimeterError(
        f"{folder} lacks the classifier {card['classifier']}, or its files are damaged. Run the study again into the "
        "same folder."
    )


def _engine(plan: EnginePlan, classifier: Classifier) -> Engine:
    """Return the engine whose gradients were followed; torch's, which differ by rounding, where it is not installed."""
    try:
        return build_engine(plan.name, classifier, threads=1)
    except EngineUnavailable:
        return TorchEngine(classifier)
