"""What a study examines beside its rows: gradients before; convergence and what a model observer detects after.

Each finding lies in the run's folder as a file of its own, under a key that digests all it depends on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from dosimeter.attacks.base import DirectionAttack
from dosimeter.attacks.presets import PRESETS, Preset
from dosimeter.attacks.threat import GOALS, Threat
from dosimeter.cohorts.trials import Trial
from dosimeter.examinations.convergence import Escalating, examine_convergence
from dosimeter.examinations.observer import observe
from dosimeter.examinations.preflight import VERSION, examine
from dosimeter.models.base import Classifier
from dosimeter.progress import Progress
from dosimeter.record import table as responses
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
    """

    effort: str
    declared_accuracy: Mapping[str, float]
    sampled: bool
    epsilons: tuple[float, ...]


class OneDecision(NamedTuple):
    """A classifier and a trial as one decision sees them; `name` is the finding, or "" of classes."""

    name: str
    trial: Trial
    classifier: Classifier

    @property
    def told(self) -> Facts:
        """What its facts say of it."""
        return {"decision": self.name} if self.name else {}


def each_decision(trial: Trial, classifier: Classifier) -> list[OneDecision]:
    """Return every decision that a classifier makes about the images of a trial, as one between classes."""
    if classifier.findings is None:
        return [OneDecision("", trial, classifier)]
    return [OneDecision(name, trial.of_finding(name), classifier.deciding(name)) for name in classifier.classes]


class Examinations:
    """The examinations of one study.

    Args:
        presets: what is swept.
    """

    def __init__(self, settings: ExaminationSettings, run: Run, progress: Progress, presets: Sequence[Preset]) -> None:
        self._settings = settings
        self._run = run
        self._progress = progress
        self._presets = presets

    def preflights(self, trial: Trial, classifier: Classifier, threat: Threat) -> list[Facts]:
        """Return what `preflight.examine` finds for the paper's loss and for the sound one, if attacks climb them."""
        names = {preset.name for preset in self._presets}
        losses = [PRESETS["paper"]] * ("paper" in names) + [PRESETS["sound"]] * bool(names - {"paper"})
        return [
            {**self._preflight(preset, each.trial, each.classifier, threat), **each.told}
            for each in each_decision(trial, classifier)
            for preset in losses
        ]

    def _preflight(self, preset: Preset, trial: Trial, classifier: Classifier, threat: Threat) -> Facts:
        limits = replace(threat, native=False)  # it looks at images on the classifier's grid
        model, declared = classifier.card["model"], self._settings.declared_accuracy
        options: dict[str, Any] = {
            "loss": preset.attack.loss,
            "channels": preset.attack.channels,
            "declared_accuracy": declared.get(f"{model}@{trial.cohort.name}", declared.get(model)),
            "n_images": N_IMAGES[self._settings.effort],
            "seed": trial.split.seed,
        }

        def compute() -> Facts:
            self._progress.begin(f"{model}: examining its gradients", 0)
            return examine(classifier, trial.split.test, threat=limits, **options)

        asked = [str(options), *([str(limits.identity)] if limits.limits else [])]
        key = digest_of([str(VERSION), classifier.fingerprint, trial.split.test.sha256, *asked, torch.__version__])
        facts = self._kept("preflight", key, compute, {**trial.scope, "model": model})
        return {**facts, **trial.scope, "evaluation": preset.name, "sampled": self._settings.sampled}

    def convergence(self, trial: Trial, classifier: Classifier, cells: Sequence[Cell]) -> list[Facts]:
        """Return whether more of an attack would have broken more, where it says what more is and left an image."""
        found: list[Facts] = []
        if classifier.findings is not None and cells[0].setting.threat.goal != GOALS[0]:
            return found  # what is after several findings at once has no loss of its own to climb further
        for each in each_decision(trial, classifier):
            for preset in self._presets:
                if not isinstance(preset.attack, Escalating):
                    continue
                facts = self._converged(preset.attack, preset.name, each, cells)
                if facts:
                    scope = {**trial.scope, "model": classifier.card["model"], "seed": trial.split.seed}
                    found.append({**scope, "preset": preset.name, **facts, **each.told})
        return found

    def _converged(self, attack: Escalating, name: str, one: "OneDecision", cells: Sequence[Cell]) -> Facts:
        trial, classifier = one.trial, one.classifier
        mine = [cell for cell in cells if cell.setting.preset.name == name]
        parts = [self._run.part(cell.cell_id) for cell in mine]

        def compute() -> Facts:
            self._progress.begin(f"{classifier.card['model']}: {name} with twice the steps", 0)
            rows = responses.read_parts(parts)
            rows = rows[(rows["made_on"] == "") & (rows["storage"] == "float") & (rows["decision"] == one.name)]
            return examine_convergence(attack, classifier, trial.split.test, rows, mine[0].setting) or {}

        key = digest_of([*(part.stem for part in parts), *([one.name] if one.name else [])])
        return self._kept("convergence", key, compute, {**trial.scope, "model": classifier.card["model"]})

    def visibility(self, trial: Trial, classifier: Classifier, threat: Threat) -> list[Facts]:
        """Return what a model observer detects of the sound preset, at the epsilons of the setting `visibility`."""
        preset = next((preset for preset in self._presets if preset.name == "sound"), None)
        epsilons = self._settings.epsilons
        if preset is None or not epsilons or threat.native or classifier.findings is not None:
            return []  # it looks at perturbations on the classifier's grid, and at one decision
        attack = preset.attack
        assert isinstance(attack, DirectionAttack)
        model = classifier.card["model"]

        def compute() -> Facts:
            self._progress.begin(f"{model}: a model observer", 0)
            return {"found": observe(attack, classifier, trial.split.test, epsilons, threat=threat)}

        settings = [str(epsilons), *([str(threat.identity)] if threat.limits else [])]
        key = digest_of([classifier.fingerprint, trial.split.test.sha256, *settings, torch.__version__])
        facts = self._kept("visibility", key, compute, {**trial.scope, "model": model})
        scope = {**trial.scope, "model": model, "seed": trial.split.seed, "preset": preset.name}
        return [{**scope, **found} for found in facts["found"]]

    def _kept(self, kind: str, key: str, compute: Callable[[], Facts], scope: Mapping[str, str]) -> Facts:
        """Return the facts that the run holds under `key`, or compute them and keep them there."""
        file = self._run.folder / "examined" / f"{kind}-{key}.json"
        facts: Facts | None = kept(file)
        if facts is None:
            with self._run.stage(kind, **scope):
                facts = compute()
            keep(file, facts)
        return facts
