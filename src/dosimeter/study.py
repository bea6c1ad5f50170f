"""The study: cohorts -> classifiers -> sweep -> responses.parquet -> report, one straight line."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

import dosimeter
from dosimeter import responses
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.atomic import write_text
from dosimeter.attacks.fgsm import PRESETS
from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.split import Split, shared_patients, split
from dosimeter.config import StudyConfig
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import HeadSpec, get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import fit, recipe
from dosimeter.models.saved import ClassifierDamaged, load_classifier, save_classifier
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights, WeightsUnavailable, load_weights
from dosimeter.progress import Progress
from dosimeter.provenance import environment, peak_memory_mib
from dosimeter.report import redraw
from dosimeter.runs import Run
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.pictures import picture
from dosimeter.sweeps.plan import Cell, Setting, plan_cells, pseudonymise_patients

log = logging.getLogger(__name__)


class Trial(NamedTuple):
    """A cohort split by a protocol: what every model is trained and attacked on."""

    cohort: Cohort
    split: Split

    @property
    def scope(self) -> dict[str, str]:
        """Its keys in the manifest's stages."""
        return {"cohort": self.cohort.name, "protocol": self.split.protocol}


class Outcome(NamedTuple):
    """What a study left behind."""

    run: Run
    incomplete: list[str]
    reused: bool  # every row was already there


def run_study(config: StudyConfig, *, progress: Progress | None = None, command: str = "") -> Outcome:
    """Run the whole study, or what is missing of it, and draw its report.

    Args:
        config: its settings.
        progress: told of every stage.
        command: the command line, for the record.

    Raises:
        DosimeterError: a setting, a cohort or every model's weights are unusable.
    """
    config = config.resolved()
    assert config.out is not None
    run = Run(config.out)
    with run.open():
        run.begin(settings=config.digest())
        study = _Study(config, run, progress or Progress())
        return study.execute(command)


def plan_trials(config: StudyConfig) -> tuple[list[Trial], list[str]]:
    """Load the cohorts and split them; return the trials and a sentence for each that could not be made."""
    trials: list[Trial] = []
    notes: list[str] = []
    for name in config.cohort:
        cohort = load_cohort(
            name,
            data=config.data,
            limit=config.limit,
            strict=config.strict,
            positive=config.positive,
            seed=config.seed,
        )
        has_official = any(record.official_split == "test" for record in cohort.records)
        for protocol in config.protocol or (("paper", "official") if has_official else ("paper",)):
            try:
                trials.append(Trial(cohort, split(cohort, protocol, seed=config.seed)))
            except DosimeterError as error:
                notes.append(f"{cohort.name}: the {protocol} protocol was left out: {error}")
    if not trials:
        raise DosimeterError(" ".join(notes))
    names = [trial.cohort.name for trial in trials if trial.split.protocol == trials[0].split.protocol]
    for name in names:
        if names.count(name) > 1:
            raise DosimeterError(f"cohort: two are called '{name}' in the outputs. Rename one, or run two studies.")
    return trials, notes


def pick_device(name: str) -> str:
    """Return `name`, or for "auto" a GPU if there is one; raise DosimeterError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    torch.backends.cudnn.deterministic = True  # the same seed gives the same tables
    torch.backends.cudnn.allow_tf32 = False  # and an epsilon of 1e-4 is not lost in a 10-bit mantissa
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        raise DosimeterError(f"device '{name}' is not on this machine. Use --device cpu.")
    return name


class _Study:
    """One execution of a study; its attributes are what all stages share."""

    def __init__(self, config: StudyConfig, run: Run, progress: Progress) -> None:
        self.config = config
        self.run = run
        self.progress = progress
        self.device = pick_device(config.device)
        self.cells: list[str] = []
        self.n_executed = 0  # cells whose rows were not there
        self.cards: list[dict[str, Any]] = []
        self.exemplars: list[dict[str, str]] = []

    def execute(self, command: str) -> Outcome:
        self.progress.begin("reading images", 0)
        with self.run.stage("read"):
            trials, incomplete = plan_trials(self.config)
        write_text(self.run.folder / "config.toml", self.config.to_toml())  # a mistake keeps the old one
        for cohort in {trial.cohort.name: trial.cohort for trial in trials}.values():
            for name, reason in cohort.skipped:
                self.progress.note(f"{cohort.name}: {name} was left out: {reason}")
        for model in self.config.model:
            try:
                weights = self._weights(model)
            except WeightsUnavailable as error:
                self.progress.note(str(error))
                incomplete.append(str(error))
                continue
            for trial in trials:
                self._sweep(trial, self._classifier(model, weights, trial))
        if not self.cells:
            raise DosimeterError("no model has weights. " + " ".join(incomplete))
        if self._finished(incomplete):
            return Outcome(self.run, incomplete, reused=True)
        self._merge(trials, incomplete, command)
        self.progress.begin("drawing the report", 0)
        with self.run.stage("report"):
            redraw(self.run.folder)
        self.run.save_manifest(status="finished", finished=self._digest(incomplete))
        return Outcome(self.run, incomplete, reused=False)

    def _weights(self, model: str) -> Weights:
        self.progress.begin(f"{model}: weights", 0)
        preprocessing = None if self.config.preprocessing == "source" else self.config.preprocessing
        with self.run.stage("weights", model=model):
            return load_weights(model, file=self.config.weights.get(model), preprocessing=preprocessing)

    def _classifier(self, model: str, weights: Weights, trial: Trial) -> Classifier:
        """Return the trained classifier of a trial: the one in the run if its recipe is the same, else a new one."""
        config = self.config
        head = get_backbone(model).head
        spec: HeadSpec = head if config.pool is None else replace(head, pool=config.pool)
        options = FitOptions(config.epochs, config.batch_size, config.learning_rate, config.decay)
        key = recipe(model, trial.split, config.seed, weights, spec, options, self.device)
        folder = self.run.classifiers / f"{_slug(trial.cohort.name)}-{trial.split.protocol}-{model}-{key[:8]}"
        classifier = self._trained(folder, weights)
        if classifier is None:
            total = len(trial.split.train) + len(trial.split.test)
            self.progress.begin(f"{model} on {trial.cohort.name} ({trial.split.protocol}): features", total)
            classifier = fit(
                model,
                trial.split,
                seed=config.seed,
                weights=weights,
                head=spec,
                options=options,
                device=self.device,
                advance=self.progress.advance,
            )
            for stage, duration_s in classifier.card["duration_s"].items():
                self.run.add_seconds(stage, duration_s, model=model, **trial.scope)
            save_classifier(classifier, folder)
        self.cards.append({**classifier.card, "classifier": classifier.name, "sha256": classifier.fingerprint})
        return classifier

    def _trained(self, folder: Path, weights: Weights) -> Classifier | None:
        """Return the classifier in `folder`, None if there is none or its files are damaged."""
        if not (folder / "card.json").is_file():
            return None
        try:
            return load_classifier(folder, weights=weights, device=self.device)
        except ClassifierDamaged:
            self.progress.note(f"{folder} is damaged: the classifier is trained again")
            return None

    def _sweep(self, trial: Trial, classifier: Classifier) -> None:
        cells = list(self._plan(trial, classifier))
        self.cells += [cell.cell_id for cell in cells]
        todo = [cell for cell in cells if not responses.is_done(self.run.part(cell.cell_id))]
        model = classifier.card["model"]
        cases = sum(len(cell.shard) for cell in todo)
        self.progress.begin(f"{model} on {trial.cohort.name} ({trial.split.protocol}): sweep", cases)
        self.n_executed += len(todo)
        for cell in todo:
            with self.run.stage("sweep", model=model, **trial.scope):
                rows = execute_cell(cell, classifier)
                responses.write_part(rows, self.run.part(cell.cell_id))
            self.run.save_manifest(status="running")
            self.progress.advance(len(cell.shard))
        self.exemplars += self._pictures(trial, classifier, cells)

    def _plan(self, trial: Trial, classifier: Classifier) -> Iterator[Cell]:
        patients = pseudonymise_patients(trial.cohort)
        for name in self.config.preset:
            setting = Setting(
                protocol=trial.split.protocol,
                preset=PRESETS[name],
                epsilons=self.config.epsilons,
                seed=self.config.seed,
                patients=patients,
            )
            yield from plan_cells(trial.split.test, classifier, setting)

    def _pictures(self, trial: Trial, classifier: Classifier, cells: list[Cell]) -> list[dict[str, str]]:
        """Return the images of the cases that the figures show, drawn once and kept beside the parts."""
        file = self.run.pictures / f"{digest_of([cell.cell_id for cell in cells])}.json"
        try:
            drawn: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # not drawn yet, or damaged
            parts = [responses.read_part(self.run.part(cell.cell_id)) for cell in cells]
            drawn = []
            for chosen in choose_exemplar(pd.concat(parts)).to_dict("records"):
                keys = {key: str(chosen[key]) for key in ("cohort", "protocol", "model", "preset", "case_id")}
                attack = PRESETS[keys["preset"]].attack
                drawn.append({**keys, **picture(trial.split.test, keys["case_id"], classifier, attack)})
            write_text(file, json.dumps(drawn))
        return drawn

    def _merge(self, trials: list[Trial], incomplete: list[str], command: str) -> None:
        """Write responses.parquet: all rows, and what the tables and figures need beside them."""
        names = [cohort.name for cohort in {trial.cohort.name: trial.cohort for trial in trials}.values()]
        shown_paths = {"cohort": names, "weights": {model: file.name for model, file in self.config.weights.items()}}
        facts = {
            "run_id": digest_of(self.cells)[:12],
            "dosimeter_version": dosimeter.__version__,
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "phantom": self.config.is_phantom,
            "config": self.config.identity() | shown_paths,
            "environment": environment(self.device),
            "cohorts": [describe(trial) for trial in trials],
            "classifiers": self.cards,
            "incomplete": incomplete,
            "peak_memory_mib": peak_memory_mib(),
        }
        parts = [self.run.part(cell_id) for cell_id in self.cells]
        self.run.save_manifest(status="merging", finished=None)  # what stands there now is about to change
        beside = {"stages": self.run.manifest["stages"], "exemplars": self.exemplars}
        responses.merge_parts(parts, self.run.responses, {**facts, **beside})
        self.run.save_manifest(**facts)

    def _finished(self, incomplete: list[str]) -> bool:
        """Whether the run already holds the report of exactly these cells."""
        same = self.run.manifest.get("finished") == self._digest(incomplete)
        if not same or self.n_executed or not all(path.exists() for path in self.run.products):
            return False
        try:
            responses.read(self.run.responses)
        except DosimeterError:  # damaged since: it is merged again
            return False
        return True

    def _digest(self, incomplete: list[str]) -> str:
        """Return a digest of what a finished run holds and of what drew it."""
        return digest_of([dosimeter.__version__, str(responses.SCHEMA_VERSION), *self.cells, *incomplete])


def describe(trial: Trial) -> dict[str, Any]:
    """Return what the report says of a cohort and its split; no file name, no patient id."""
    cohort, halves = trial
    return {
        "cohort": cohort.name,
        "modality": cohort.modality,
        "protocol": halves.protocol,
        "seed": halves.seed,
        "classes": list(cohort.classes),
        "n": len(cohort),
        "counts": cohort.counts,
        "sha256": cohort.sha256,
        "skipped": len(cohort.skipped),
        "n_train": len(halves.train),
        "n_test": len(halves.test),
        "train_counts": halves.train.counts,
        "test_counts": halves.test.counts,
        "n_test_sharing_patient": shared_patients(halves),
        "n_unused": halves.n_unused,
        "provenance": cohort.provenance,
    }


def digest_of(parts: list[str]) -> str:
    """Return a short digest of a list of strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _slug(name: str) -> str:
    """Return a cohort's name as part of a file name: "folder:/a/b" becomes "folder"."""
    return name.partition(":")[0]
