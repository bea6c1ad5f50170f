"""`examine`: can an evaluation of this classifier be trusted? One call, before it is attacked."""

import html
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from dosimeter.analysis.checks import PASS, VERDICTS
from dosimeter.analysis.evaluation import SOUND, Check, evaluate
from dosimeter.analysis.names import PUBLISHED
from dosimeter.attacks.threat import ThreatModel
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.examinations import preflight
from dosimeter.models.base import Classifier
from dosimeter.record.table import to_frame

_FAMILY = {"margin": SOUND, "keras_bce": PUBLISHED}


@dataclass(frozen=True)
class Examination:
    """What was found of a classifier.

    Attributes:
        facts: every number, as JSON types.
        checks: one row a check: title, verdict, measured, rule, source, remedy.
    """

    facts: dict[str, Any] = field(repr=False)
    checks: pd.DataFrame = field(repr=False)

    @property
    def verdict(self) -> str:
        """The worst of the checks: "PASS", "CAUTION" or "UNRELIABLE"; of the evaluation, not of the classifier."""
        return max(self.checks["verdict"], key=VERDICTS.index, default=PASS)

    def __str__(self) -> str:
        """Return the verdict, and of each check that is not passed what was measured and what to do."""
        lines = [f"{self.verdict}: {self.facts['classifier']} on {self.facts['n']} images of {self.facts['cohort']}"]
        for check in self.checks[self.checks["verdict"] != PASS].itertuples():
            lines.append(f"{check.verdict}  {check.title}: {check.measured} {check.remedy}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in self.checks[["verdict", "title", "measured", "remedy"]].to_numpy()
        )
        return f"<table><caption>{html.escape(str(self).splitlines()[0])}</caption>{rows}</table>"


def examine(
    classifier: Classifier,
    cohort: Cohort,
    *,
    loss: str = "margin",
    channels: str = "tied",
    declared_accuracy: float | None = None,
    n_images: int = 32,
    seed: int = 0,
    threat: ThreatModel | None = None,
) -> Examination:
    """Examine a classifier as a study does before its sweep: mode, randomness, outputs, gradients, an unbounded attack.

    Use it on a network of your own before you believe what attacks say of it. What attacks find is judged by a study.

    Args:
        classifier: what is examined.
        cohort: its test images; a few are drawn.
        loss: of the attack that will follow, as `FGSM`.
        channels: likewise.
        declared_accuracy: the accuracy that you state for the cohort, in [0, 1]; a check compares it.
        n_images: how many are drawn from the cohort; all, where there are fewer.
        seed: of the draw and of random directions.
        threat: what the attacker may do; gradients are examined as it meets them. By default anything.

    Returns:
        An `Examination`: print it.

    Raises:
        DosimeterError: no image can be read, the classifier does not answer images with logits, or `OneLogit` or
            `Finding` stands behind probabilities.

    Source: docs/evaluation.md, which gives the rule and the source of each check.

    Example:
        >>> import dosimeter as dm
        >>> classifier = dm.load_classifier("FOLDER")  # doctest: +SKIP
        >>> print(dm.examine(classifier, dm.load_cohort("phantom-xray", limit=32)))  # doctest: +SKIP
        PASS: vgg16-1f9a03c2 on 32 images of phantom-xray
    """
    for name, value, kind in (("classifier", classifier, Classifier), ("cohort", cohort, Cohort)):
        if not isinstance(value, kind):
            raise DosimeterError(f"{name} must be a dosimeter.{kind.__name__}, got {type(value).__name__}.")
    declared = replace(threat or ThreatModel(), native=False)  # it looks at images on the classifier's grid
    limits = declared.against(classes=cohort.classes, size_px=classifier.size_px, fill=False, exhaustive=False)
    options: dict[str, Any] = {"loss": loss, "channels": channels, "declared_accuracy": declared_accuracy}
    facts = preflight.examine(classifier, cohort, **options, n_images=n_images, seed=seed, threat=limits)
    checks = evaluate(to_frame([]), [facts])
    family = checks["preset"] == _FAMILY.get(loss, SOUND)
    return Examination(facts, checks.loc[family, list(Check._fields)].reset_index(drop=True))
