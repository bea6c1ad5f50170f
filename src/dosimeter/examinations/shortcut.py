"""Does a classifier look where the organ is? Its AUC with the centre of images blanked, and with the centre alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from dosimeter.cohorts.auditing.probes import ACCEPTABLE
from dosimeter.cohorts.auditing.seeing import centre
from dosimeter.cohorts.auditing.targets import probe_of, targets
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.groups import united
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier, answer
from dosimeter.record.data_audit import LEVELS, DataAudit, DataCheck, Probe
from dosimeter.record.scores import tells_labels

WHOLE, OUTSIDE, INSIDE = "whole images", "without their centre", "their centre alone"

BATCH = 16

Scores = npt.NDArray[np.float64]


def shortcut_probes(classifier: Classifier, cohort: Cohort) -> list[Probe]:
    """Return the classifier's AUC on whole images, without their centre (two thirds of each side), and on it alone.

    What is blanked takes the mean grey of what is left, so that it is no more of an edge than it must be. A classifier
    that tells the label as well without the centre need not look at it; one that fails may also fail because the images
    are unlike those that it was trained on.

    Args:
        classifier: any that `sweep` takes.
        cohort: images that it was not trained on, with its classes or findings.

    Returns:
        For each class, of two the positive one, or finding, the three probes in this order; none of what has no image,
        or nothing else.

    Raises:
        DosimeterError: the cohort has other classes or findings.

    Source: Maguolo and Nanni 2021, Information Fusion 76:1 (lungs blacked out).
    """
    theirs = cohort.findings or cohort.classes
    if theirs != classifier.classes or bool(cohort.findings) != (classifier.findings is not None):
        raise DosimeterError(
            f"the cohort's classes {list(theirs)} must be the classifier's {list(classifier.classes)}, in that order."
        )
    groups = np.array(united([record.unit for record in cohort.records], []))
    answers: dict[str, list[Tensor]] = {name: [] for name in (WHOLE, OUTSIDE, INSIDE)}
    for start in range(0, len(cohort), BATCH):
        places = range(start, min(start + BATCH, len(cohort)))
        images = torch.stack([classifier.prepare(cohort[place]) for place in places]).to(classifier.device)
        for name, seen in _views(images).items():
            answers[name].append(answer(classifier, seen).cpu().double())
    logits = {name: torch.cat(each).numpy() for name, each in answers.items()}
    return [
        probe_of(name, target, float(roc_auc_score(target.positive, scores)), groups)
        for target in targets(cohort)
        if target.positive.any() and not target.positive.all()
        for name, rows in logits.items()
        for scores in [_scores(rows[target.places], target.column, bool(cohort.findings))]
    ]


def shortcut_checks(probes: Sequence[Probe], name: str = "the classifier") -> Iterator[DataCheck]:
    """Yield, for each class or finding, whether a classifier of that name tells it without the centre."""
    by_target: dict[str, dict[str, Probe]] = {}
    for probe in probes:
        by_target.setdefault(probe.target, {})[probe.name] = probe
    for target, found in by_target.items():
        outside = found[OUTSIDE]
        warned = outside.low > ACCEPTABLE
        said = ", ".join(f"{view} {each.auc:.3f} ({each.low:.3f} to {each.high:.3f})" for view, each in found.items())
        yield DataCheck(
            id=f"centre: {name}: {target}",
            title=f"Does {name} tell {target} without the centre of the images?",
            level="warn" if warned else "info" if outside.low > 0.5 else "pass",
            measured=f"AUC on {said}.",
            rule="the lower bound of the AUC's 95 % interval without the centre: above 0.5 info, above "
            f"{ACCEPTABLE} warn",
            source="Maguolo and Nanni 2021, Information Fusion 76:1; Hosmer, Lemeshow and Sturdivant 2013, 5.2.4; the "
            "centre, two thirds of each side, is dosimeter's own",
            remedy="look at the images without their centre for markers, borders and signs of their source"
            if warned
            else "",
            numbers={view: each.model_dump() for view, each in found.items()},
        )


def named_probes(classifier: Classifier, cohort: Cohort, name: str) -> tuple[list[Probe], list[DataCheck]]:
    """Return what `shortcut_probes` finds of a classifier under its name, and what `shortcut_checks` says of that.

    Of one that tells labels alone nothing is asked: an AUC is of scores.
    """
    if tells_labels(classifier.card):
        return [], [_not_asked(name)]
    probes = shortcut_probes(classifier, cohort)
    named = [probe.model_copy(update={"name": f"{name}: {probe.name}"}) for probe in probes]
    return named, list(shortcut_checks(probes, name))


def _not_asked(name: str) -> DataCheck:
    return DataCheck(
        id=f"centre: {name}",
        title=f"Does {name} tell the label without the centre of the images?",
        level="info",
        measured="not asked: it tells labels alone, and an AUC is of scores",
        rule="asked of classifiers that give scores",
        source="Maguolo and Nanni 2021, Information Fusion 76:1",
        remedy="let it give probabilities",
        numbers={},
    )


def with_classifier(audit: DataAudit, classifier: Classifier, test: Cohort) -> DataAudit:
    """Return an audit with what `shortcut_probes` finds of a classifier, named by its card, on test images."""
    probes, found = named_probes(classifier, test, str(classifier.card.get("model", "classifier")))
    checks = sorted([*audit.checks, *found], key=lambda check: LEVELS.index(check.level))
    return audit.model_copy(update={"probes": [*audit.probes, *probes], "checks": checks})


def _views(images: Tensor) -> dict[str, Tensor]:
    """Return images (n, 3, H, W) whole, without their centre, and their centre alone."""
    inside = torch.from_numpy(centre(*images.shape[2:])).to(images.device)
    return {WHOLE: images, OUTSIDE: _blanked(images, inside), INSIDE: _blanked(images, ~inside)}


def _blanked(images: Tensor, where: Tensor) -> Tensor:
    left = images[..., ~where].mean(dim=-1)  # (n, 3)
    return torch.where(where, left[..., None, None], images)


def _scores(logits: Scores, column: int, findings: bool) -> Scores:
    """Return the logit of a finding, or of a class less the log-sum-exp of the others."""
    mine: Scores = logits[:, column]
    if findings:
        return mine
    rest: Scores = np.logaddexp.reduce(np.delete(logits, column, axis=1), axis=1)
    return mine - rest
