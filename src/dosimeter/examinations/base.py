"""The contract of an examination: what a study measures of a classifier beside its rows, before or after its sweep.

An examination asks questions; `Examinations` answers those that were not answered before. Each answer lies in the run's
folder as a file of its own, under a key that digests all it depends on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from dosimeter import registry
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.trials import Trial
from dosimeter.models.base import Classifier
from dosimeter.progress import Progress
from dosimeter.record.provenance import digest_of
from dosimeter.record.run import Run, keep, kept
from dosimeter.sweeps.plan import Cell

N_IMAGES = {"quick": 8, "standard": 16, "thorough": 64}
"""Images on which a classifier is examined before it is attacked, by effort."""

Facts = dict[str, Any]


class ExaminationSettings(NamedTuple):
    """What a study's settings say of its examinations.

    Attributes:
        effort: how many images are examined, one of `N_IMAGES`.
        declared_accuracy: the user's own figures, by model, or by model@cohort.
        sampled: whether the images are a sample of those that the figures are of.
        epsilons: at which the model observer looks; none, and it does not.
        pictured: whether the figures show images of this trial.
        data_audit: whether the images are audited.
    """

    effort: str
    declared_accuracy: Mapping[str, float]
    sampled: bool
    epsilons: tuple[float, ...]
    pictured: bool = True
    data_audit: bool = False


class OneDecision(NamedTuple):
    """A classifier and a trial as one decision sees them; `name` is the finding, or "" of classes."""

    name: str
    trial: Trial
    classifier: Classifier

    @property
    def told(self) -> Facts:
        """What its facts say of it."""
        return {"decision": self.name} if self.name else {}


class Examined(NamedTuple):
    """What is examined: a classifier on a trial, as a study sweeps it.

    Attributes:
        cells: of its sweep, planned or done.
        parts: the file that holds, or will hold, the rows of a cell's id.
    """

    trial: Trial
    classifier: Classifier
    cells: Sequence[Cell]
    presets: Sequence[Preset]
    settings: ExaminationSettings
    parts: Callable[[str], Any]

    @property
    def model(self) -> str:
        """What tables call the classifier."""
        return str(self.classifier.card["model"])

    @property
    def scope(self) -> Facts:
        """Cohort, protocol, model, seed and defence, as facts about the classifier tell them."""
        defence = self.classifier.card.get("defence")
        scope = {**self.trial.scope, "model": self.model, "seed": self.trial.split.seed}
        return scope | ({"defence": defence} if defence else {})

    @property
    def threat(self) -> Threat:
        """What the attacker may do."""
        return self.cells[0].setting.threat

    @property
    def each_decision(self) -> list[OneDecision]:
        """Every decision that the classifier makes about the trial's images, as one between classes."""
        if self.classifier.findings is None:
            return [OneDecision("", self.trial, self.classifier)]
        return [
            OneDecision(name, self.trial.of_finding(name), self.classifier.deciding(name))
            for name in self.classifier.classes
        ]

    def cells_of(self, preset: str) -> list[Cell]:
        """Return the cells of one preset."""
        return [cell for cell in self.cells if cell.setting.preset.name == preset]


class Question(NamedTuple):
    """One question about a classifier.

    Attributes:
        title: what the user reads while it is answered.
        key: all that the answer depends on, beside classifier, test images and versions.
        answer: finds facts, as JSON types.
        beside: what each of these facts is told with beside cohort, protocol, model, seed and defence; kept nowhere.
            Facts about one of several findings need its `OneDecision.told`.
    """

    title: str
    key: Sequence[str]
    answer: Callable[[], Sequence[Facts]]
    beside: Facts


class Examination(NamedTuple):
    """What a file of `examinations/known` has as its `ENTRY`, or another package's entry point names.

    Its facts stand in the run's meta: under its name if `record.facts.Facts` knows that, else in `meta["examined"]`.
    Sections read them there, and checks as `Trial.examined`.

    Attributes:
        note: what it measures, for `dosimeter list examinations`.
        ask: yields its questions about a classifier; none where it has nothing to look at.
        before: whether it is asked before the sweep, so that a user reads of a broken network at once.
        version: raised when the same question would be answered otherwise.
        folder: of the run, where its answers are kept.
    """

    note: str
    ask: Callable[[Examined], Iterator[Question]]
    before: bool = False
    version: int = 1
    folder: str = "examined"


class Examinations:
    """The examinations of one study: asks what was not asked before, and keeps every answer in the run."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run = run
        self._progress = progress

    def of(self, examined: Examined, *, before: bool) -> dict[str, list[Facts]]:
        """Return the facts that each examination found, by its name; of those asked before the sweep, or after it."""
        found = {}
        for name in registry.names("examinations"):
            examination: Examination = registry.get("examinations", name)
            if examination.before == before:
                found[name] = [
                    {**examined.scope, **facts, **question.beside}
                    for question in examination.ask(examined)
                    for facts in self._answered(name, examination, examined, question)
                ]
        return found

    def _answered(self, name: str, examination: Examination, examined: Examined, question: Question) -> list[Facts]:
        """Return the answer that the run holds, or find it and keep it there."""
        subject = [examined.classifier.fingerprint, examined.trial.split.test.sha256]
        key = digest_of([str(examination.version), *subject, *question.key, torch.__version__])
        file = self._run.folder / examination.folder / f"{name}-{key}.json"
        answer: list[Facts] | None = kept(file)
        if answer is None:
            self._progress.begin(f"{examined.model}: {question.title}", 0)
            with self._run.stage(name, **examined.trial.scope, model=examined.model):
                answer = list(question.answer())
            keep(file, answer)
        return answer
