"""The study: cohorts -> classifiers -> sweep -> responses.parquet -> report, one straight line."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

import dosimeter
from dosimeter.attacks.registry import require_access
from dosimeter.cohorts.contrast import flat_sentences
from dosimeter.cohorts.split import copy_sentences
from dosimeter.cohorts.trials import Trial, cohorts_of
from dosimeter.defences.base import defend, pipeline, require_images, shows
from dosimeter.defences.cost import with_cost
from dosimeter.defences.saved import bring
from dosimeter.engines.base import EngineUnavailable
from dosimeter.engines.choose import ENGINES, EnginePlan, engine_versions, plan_engine
from dosimeter.errors import DosimeterError
from dosimeter.examinations.base import Examinations, ExaminationSettings, Examined
from dosimeter.executors.base import open_executor, pick_device
from dosimeter.executors.local import Audience, Executor, FitJob
from dosimeter.files import write_text
from dosimeter.models import fit
from dosimeter.models.backbones import HeadSpec, get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import recipe
from dosimeter.models.saved import ClassifierDamaged, OtherBase, load_classifier, save_classifier
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights, WeightsUnavailable
from dosimeter.progress import Progress
from dosimeter.record import table as responses
from dosimeter.record.facts import Plan
from dosimeter.record.model_card import name_of
from dosimeter.record.provenance import digest_of
from dosimeter.record.run import MERGING, RUNNING, Run
from dosimeter.report import redraw
from dosimeter.report.answer import answer
from dosimeter.study.config import StudyConfig
from dosimeter.study.data_audit import data_audits
from dosimeter.study.first_look import first_look
from dosimeter.study.gathering import Asked, Swept, gather, joined, leave, run_id_of
from dosimeter.study.planning import check_limits, plan_trial, require_classes, threat_of
from dosimeter.study.presets import presets_of, unsuited
from dosimeter.study.subjects import NOBODY, Subjects
from dosimeter.study.trials import plan_trials
from dosimeter.study.workload import passes_of
from dosimeter.surroundings import plain_torch
from dosimeter.sweeps.plan import Cell

log = logging.getLogger(__name__)

MANIFEST_EVERY_S = 5.0


class Place(NamedTuple):
    """Where a classifier stands in a study: the places of its model, of its trial, and of its defence, 0 being none."""

    model: int
    trial: int
    defence: int = 0


class Outcome(NamedTuple):
    """What a study left behind."""

    run: Run
    incomplete: list[str]
    reused: bool  # every row was already there


@plain_torch()
def run_study(
    config: StudyConfig, *, progress: Progress | None = None, command: str = "", subjects: Subjects = NOBODY
) -> Outcome:
    """Run the whole study, or what is missing of it, and draw its report.

    Args:
        config: its settings.
        progress: told of every stage.
        command: the command line, for the record.
        subjects: what the settings name that a Python session has.

    Raises:
        DosimeterError: a setting, a cohort or every model's weights are unusable.
    """
    config = config.resolved()
    assert config.out is not None
    run = Run(config.out)
    with run.open(), open_executor(config.executor, workers=config.workers, address=config.address) as executor:
        run.begin(settings=config.digest())
        return _Study(config, run, progress or Progress(), executor, subjects).execute(command)


class _Study:
    """One execution of a study; its attributes are what all stages share."""

    def __init__(
        self, config: StudyConfig, run: Run, progress: Progress, executor: Executor, subjects: Subjects
    ) -> None:
        self.subjects = subjects
        self.config = config
        self.run = run
        self.progress = progress
        self.executor = executor
        self.device = pick_device(config.device)
        self.presets = presets_of(config)
        self.examinations = Examinations(run, progress)
        self.swept: dict[Place, Swept] = {}
        self.waiting: dict[Place, Classifier] = {}  # to be swept once all are there to hear each other's images
        self.loaded: dict[str, Classifier] = {}  # before it is its turn
        self.noted: set[str] = set()
        self.n_executed = 0  # cells whose rows were not there
        self.asked: Asked  # once images are read

    def execute(self, command: str) -> Outcome:
        incomplete, reused = self._compute(command)
        if reused:
            return Outcome(self.run, incomplete, reused=True)
        finished = self._digest(incomplete)
        self.swept.clear()  # what grows with the images, and the report does without
        self.waiting.clear()
        with self.run.stage("report"):
            redraw(self.run.folder, progress=self.progress)
        self.run.finish(finished=finished)
        return Outcome(self.run, incomplete, reused=False)

    def _compute(self, command: str) -> tuple[list[str], bool]:
        """Leave all rows in responses.parquet; return what they lack, and whether the run was finished already."""
        self.progress.begin("reading images", 0)
        with self.run.stage("read"):
            trials, incomplete = plan_trials(self.config, self.subjects)
        check_limits(self.config, trials)
        for name, _, defence in (part for text in self.config.defence for part in pipeline(text)):
            for trial in trials:  # a mistake is said before anything is trained
                require_images(defence, name, len(trial.split.train))
        self.asked = Asked(self.config, command, self.presets, self.device, trials, incomplete)
        write_text(self.run.folder / "config.toml", self.config.to_toml())  # a mistake keeps the old one
        self.run.enter()
        for cohort in cohorts_of(trials):
            for sentence in (*cohort.left_out, *cohort.notes, *flat_sentences(cohort)):
                self.progress.note(f"{cohort.name}: {sentence}")
        self._say(sentence for trial in trials for sentence in copy_sentences(trial.split, trial.cohort))
        self._say(unsuited(self.presets, cohorts_of(trials), self.config.attack))
        self._first_look(trials)
        if self.config.data_audit:
            self.asked = self.asked._replace(data_audits=data_audits(self.config, trials, self.run, self.progress))
        for place, model in enumerate(self.config.model):
            try:
                found = self._brought(model, trials) if self.config.brought else self._fitted(model, trials)
            except WeightsUnavailable as error:
                self.progress.note(str(error))
                incomplete.append(str(error))
                continue
            for trial_place, classifier in found:
                if not self.config.shares_images:
                    self.swept[Place(place, trial_place)] = self._sweep(trials[trial_place], classifier)
                    continue
                for defence_place, each in enumerate(self._defended(classifier, trials[trial_place])):
                    self.waiting[Place(place, trial_place, defence_place)] = each
        for where, classifier in self.waiting.items():
            others = [
                each
                for other, each in self.waiting.items()
                if other.trial == where.trial and shows(classifier.card, each.card, transfer=self.config.transfer)
            ]
            self.swept[where] = self._sweep(trials[where.trial], classifier, others)
        if not self.swept:
            raise DosimeterError("no model has weights. " + " ".join(incomplete))
        if self._finished(incomplete):
            self.run.finish()
            return incomplete, True
        self._merge(self.asked)
        return incomplete, False

    def _first_look(self, trials: Sequence[Trial]) -> None:
        """Say how many of the first images the first trained classifier has right, before anything takes long."""
        if not self.config.brought or self.run.is_settled:
            return
        model, trial = self.config.model[0], trials[0]
        classifier = self.loaded[model] = self._load(model)
        require_classes(classifier, trial.cohort)
        said = first_look(classifier, trial.split.test)
        if said:
            self.progress.note(f"{name_of(model)} on {trial.cohort.name}: {said}")

    def _load(self, model: str) -> Classifier:
        """Return the trained classifier of a card, of a folder, or of a Python session."""
        self.progress.begin(f"{name_of(model)}: loading", 0)
        with self.run.stage("load", model=name_of(model)):
            own = self.subjects.classifiers.get(model)
            return own or bring(model, trust=self.config.trust, device=self.device)

    def _brought(self, model: str, trials: Sequence[Trial]) -> Iterator[tuple[int, Classifier]]:
        """Yield each trial's place and the trained classifier of a card, or of a folder, as it is asked there."""
        classifier = self.loaded.pop(model, None) or self._load(model)
        if classifier.access != "gradients" and self.config.executor != "local":
            raise DosimeterError(
                f"executor must be local for {name_of(model)}, which is only asked, got {self.config.executor}."
            )
        threat_of(self.config, classifier.classes, classifier.size_px)
        for place, trial in enumerate(trials):
            require_classes(classifier, trial.cohort)
            yield place, classifier.with_card(**trial.scope, model=name_of(model), seed=trial.split.seed)

    def _defended(self, classifier: Classifier, trial: Trial) -> Iterator[Classifier]:
        """Yield the classifier, then the same behind each defence, with what an answer of each costs."""
        priced = (self.config.defence or self.config.defends) and classifier.access == "gradients"
        yield with_cost(classifier) if priced else classifier
        training, kept = trial.split.train, self.run.folder / "learned"
        for text in self.config.defence:
            title = f"{classifier.card['model']}: defending it by {text}"
            self.progress.begin(title, 0)
            with self.run.stage("defence", **trial.scope, model=classifier.card["model"]):
                defended = defend(classifier, text, training, seed=trial.split.seed, kept=kept, progress=self.progress)
            yield with_cost(defended) if priced else defended

    def _fitted(self, model: str, trials: Sequence[Trial]) -> Iterator[tuple[int, Classifier]]:
        return self._classifiers(model, self._weights(model), trials)

    def _weights(self, model: str) -> Weights:
        self.progress.begin(f"{model}: weights", 0)
        preprocessing = None if self.config.preprocessing == "source" else self.config.preprocessing
        with self.run.stage("weights", model=model):
            return fit.load_weights(model, file=self.config.weights.get(model), preprocessing=preprocessing)

    def _classifiers(self, model: str, weights: Weights, trials: Sequence[Trial]) -> Iterator[tuple[int, Classifier]]:
        """Yield each trial's place and classifier: the one in the run if its recipe is the same, or a new one."""
        config = self.config
        head = get_backbone(model).head
        spec: HeadSpec = head if config.pool is None else replace(head, pool=config.pool)
        options = FitOptions(config.epochs, config.batch_size, config.learning_rate, config.decay)
        missing: list[tuple[int, FitJob, Path]] = []
        for place, (cohort, halves) in enumerate(trials):
            key = recipe(model, halves, halves.seed, weights, spec, options, self.device)
            folder = self.run.classifiers / f"{_slug(cohort.name)}-{halves.protocol}-{model}-{key[:8]}"
            classifier = self._trained(folder, weights)
            if classifier is None:
                missing.append((place, FitJob(model, halves, halves.seed, weights, spec, options), folder))
            else:
                yield place, classifier
        if not missing:
            return
        jobs = [job for _, job, _ in missing]
        for index, classifier in self.executor.fit(jobs, device=self.device, progress=self.progress):
            place, _, folder = missing[index]
            for stage, duration_s in classifier.card["duration_s"].items():
                self.run.add_seconds(stage, duration_s, model=model, **trials[place].scope)
            save_classifier(classifier, folder)
            accuracy, where = classifier.card.get("test_accuracy"), trials[place]
            if accuracy is not None:
                self.progress.note(
                    f"{model} on {where.cohort.name} ({where.split.protocol}, seed {where.split.seed}): {accuracy:.1%} "
                    f"of {len(where.split.test)} test images are right without attack."
                )
            yield place, classifier

    def _trained(self, folder: Path, weights: Weights) -> Classifier | None:
        """Return the classifier in `folder`, None if there is none or its files are damaged."""
        if not (folder / "card.json").is_file():
            return None
        try:
            return load_classifier(folder, weights=weights, device=self.device)
        except (ClassifierDamaged, OtherBase):  # of other weights the folder would have another name
            self.progress.note(f"{folder} is damaged: the classifier is trained again")
            return None

    def _sweep(
        self, trial: Trial, classifier: Classifier, others: Sequence[Classifier] = (), *, choose_again: bool = False
    ) -> Swept:
        scope = {**trial.scope, "model": classifier.card["model"]}
        require_access([preset.attack for preset in self.presets], classifier.access, scope["model"])
        plan = self._engine(trial, classifier, choose_again=choose_again)
        audience = [(each, self._engine(trial, each, choose_again=choose_again)) for each in others]
        listeners = [(each.fingerprint, theirs) for each, theirs in audience]
        cells = list(plan_trial(self.config, self.run.folder, trial, classifier, plan, listeners))
        todo = [cell for cell in cells if not responses.is_done(self.run.part(cell.cell_id))]
        card = {**classifier.card, "classifier": classifier.name, "sha256": classifier.fingerprint}
        attacks = [preset for preset in self.presets if not preset.is_physical]
        theirs = [cell for cell in cells if not cell.setting.preset.is_physical]
        examined = Examined(trial, classifier, theirs, attacks, self._examining(trial), self.run.part)
        found = self.examinations.of(examined, before=True)
        begun = Swept(cells, card, {**scope, "seed": trial.split.seed, **plan.to_dict()}, found)
        if todo or not self.run.is_settled:
            leave(self.asked, [*self._in_order, begun], self.run)
            self.run.save_manifest(status=RUNNING)
        title = f"{scope['model']} on {trial.cohort.name} ({trial.split.protocol}, seed {trial.split.seed}): sweep of "
        title += f"{len(trial.split.test)} images under {', '.join(preset.name for preset in self.presets)}"
        self.progress.begin(title, sum(len(cell.shard) for cell in todo))
        try:
            with self.run.stage("sweep", **scope):
                self._execute(todo, classifier, plan, audience)
        except EngineUnavailable as refusal:  # the one that the run chose before
            if self.config.engine != "auto" or choose_again:
                raise
            self._say([f"{refusal} This run's engine for {classifier.name} is chosen again."])
            return self._sweep(trial, classifier, others, choose_again=True)
        self.n_executed += len(todo)
        self.run.save_manifest()
        n_recomputed = len({cell.cell_id for cell in cells} & set(self._recomputed))
        engine = {**begun.engine, "n_recomputed": n_recomputed}
        found |= self.examinations.of(examined, before=False)
        return Swept(cells, card, engine, found)

    def _examining(self, trial: Trial) -> ExaminationSettings:
        """Return what the settings say of examinations; the figures of single images show the first repeat."""
        config = self.config
        sampled = config.limit is not None or config.test_limit is not None
        pictured = trial.split.seed == config.seed
        return ExaminationSettings(
            config.effort, config.declared_accuracy, sampled, config.costly_epsilons, pictured, config.data_audit
        )

    def _execute(self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan, audience: Audience) -> None:
        """Write the rows of `cells` as they are done."""
        saved = time.perf_counter()
        for cell, rows, notes in self.executor.run(cells, classifier, plan, audience):
            if notes:
                self._recomputed.append(cell.cell_id)
                self.run.save_manifest()
                self._say(notes)
            responses.write_part(rows, self.run.part(cell.cell_id))
            self.progress.advance(len(cell.shard))
            if time.perf_counter() - saved > MANIFEST_EVERY_S:
                self.run.save_manifest()
                saved = time.perf_counter()

    @property
    def _recomputed(self) -> list[str]:
        """Cells of this run that torch made again after an engine, in whichever attempt."""
        return self.run.manifest.recomputed

    def _say(self, sentences: Iterable[str]) -> None:
        """Tell the user what was not told before."""
        for sentence in sentences:
            if sentence not in self.noted:
                self.progress.note(sentence)
                self.noted.add(sentence)

    def _engine(self, trial: Trial, classifier: Classifier, *, choose_again: bool) -> EnginePlan:
        """Return how the sweep is computed, as this run decided the first time: another engine means other rows."""
        model = classifier.card["model"]
        versions = [f"{package}-{version}" for name in ENGINES for package, version in engine_versions(name).items()]
        settings = [self.config.engine, self.device, torch.__version__, *versions]
        key = digest_of([classifier.fingerprint, trial.split.test.sha256, *settings])
        decided = self.run.manifest.engine_plans
        if key in decided and decided[key].name in ENGINES and not choose_again:
            return EnginePlan.from_dict(decided[key].model_dump())
        self.progress.begin(f"{model}: choosing an engine", 0)
        n_passes = round(len(trial.split.test) * passes_of(self.presets, self.config))
        with self.run.stage("engine", **trial.scope, model=model):
            plan = plan_engine(self.config.engine, classifier, trial.split.test, n_passes=n_passes, refine=True)
        self._say(plan.refused.values())
        decided[key] = Plan.model_validate(plan.to_dict())
        self.run.save_manifest()
        return plan

    @property
    def _in_order(self) -> list[Swept]:
        """What was swept, in the order of the settings, whatever came first."""
        return [self.swept[places] for places in sorted(self.swept)]

    @property
    def _cells(self) -> list[str]:
        return [cell.cell_id for swept in self._in_order for cell in swept.cells]

    def _merge(self, asked: Asked) -> None:
        """Write responses.parquet: all rows, and what the tables and figures need beside them."""
        parts = [self.run.part(cell_id) for cell_id in self._cells]
        leave(asked, self._in_order, self.run)
        self.run.save_manifest(status=MERGING, finished=None)  # what stands there now is about to change
        facts = gather(asked, self._in_order, self.run)
        responses.merge_parts(parts, self.run.responses, {**facts, **joined(self.run, facts["run_id"])})
        beside = ("stages", "exemplars", "data_audits")  # the manifest has its own stages, and shows nobody
        self.run.save_manifest(**{name: value for name, value in facts.items() if name not in beside})

    def _finished(self, incomplete: list[str]) -> bool:
        """Whether the run already holds the report of exactly these cells."""
        same = self.run.manifest.finished == self._digest(incomplete)
        if not same or self.n_executed or not all(path.exists() for path in self.run.products):
            return False
        try:
            answer(self.run.folder)
            found = responses.read_compact(self.run.responses)
        except DosimeterError:  # damaged since: it is merged and drawn again
            return False
        return bool(found.meta["run_id"] == run_id_of(self._in_order))

    def _digest(self, incomplete: list[str]) -> str:
        """Return a digest of what a finished run holds and of what drew it."""
        settings = self.config.digest()
        return digest_of([dosimeter.__version__, str(responses.SCHEMA_VERSION), settings, *self._cells, *incomplete])


def _slug(name: str) -> str:
    """Return a cohort's name as part of a file name: "folder:/a/b" becomes "folder"."""
    return name.partition(":")[0]
