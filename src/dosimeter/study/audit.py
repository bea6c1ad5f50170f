"""`audit`: from a classifier and images to a verdict, a report and a run folder, in one call."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import torch

from dosimeter.analysis import names
from dosimeter.analysis.against import accuracy_table
from dosimeter.attacks.base import Attack
from dosimeter.attacks.threat import ThreatModel
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.trials import Trial
from dosimeter.defences.saved import bring
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.plain import named
from dosimeter.presentation.section import Drawing
from dosimeter.progress import Progress
from dosimeter.record.model_card import MEMORY, access_of
from dosimeter.record.table import Responses, read, read_compact
from dosimeter.report.answer import answer
from dosimeter.report.build import build_tables
from dosimeter.report.decisions import by_finding
from dosimeter.report.figures import drawings
from dosimeter.report.tracking import open_tracker, track
from dosimeter.study.attack import Adversarial, attack
from dosimeter.study.auditing import AUDIT, audit_of
from dosimeter.study.config import StudyConfig, load_config
from dosimeter.study.run import run_study
from dosimeter.study.subjects import Subjects
from dosimeter.study.trials import plan_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def audit(
    model: Classifier | str | Path | Sequence[Classifier | str | Path],
    data: Any = None,
    *,
    attacks: str | Sequence[str] | None = None,
    effort: str = "quick",
    epsilons: str | Sequence[float | str] = AUDIT["gradients"].epsilons,
    storages: str | Sequence[str] = (),
    defences: str | Sequence[str] = (),
    visibility: Sequence[float] | str = "none",
    images: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> "Audit":
    """Attack trained classifiers on every image, judge the evaluation, draw the report: `dosimeter audit` in Python.

    Args:
        model: a `Classifier` (see `dosimeter.classifier` for a network of your own), a model card's path, or several.
        data: a `Cohort`; (images, labels) as `cohort_of` takes them; what else `cohort_of` takes; or the name of a
            cohort, as "csv:films/list.csv".
        attacks: beside FGSM with the margin loss, physical changes among them; by default those that fit what the
            classifier gives, be it gradients, scores or labels.
        effort: of the attacks: "quick", "standard" or "thorough".
        epsilons: fractions of the image range, numbers or text such as "4/255".
        storages: files that images are written to and read from.
        defences: each judged beside none.
        visibility: epsilons at which SSIM, MS-SSIM and HaarPSI are measured; "all" or "none".
        images: so many are drawn; by default all are attacked.
        seed: of that draw, and of the attacks.
        out: the run's folder, which the same call continues; by default a temporary one, gone with the result.
        progress: told of every stage.
        settings: any other setting of `StudyConfig`, as `target="clear"`, `native=True` or `data_audit=False`.

    Returns:
        An `Audit`: show it, or ask it for `table()` (accuracies), `report(path)`, `figures`, `figure(name)`,
        `adversarial(...)`, `responses`; `save(folder)` keeps all of it.

    Raises:
        DosimeterError: model, data or a setting is unusable.

    Example:
        >>> import dosimeter as dm, torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 2))
        >>> mine = dm.classifier(net, size_px=32, classes=("clear", "opacity"), channels=1)
        >>> result = dm.audit(mine, dm.load_cohort("phantom-xray", limit=20), attacks="pgd", epsilons=["4/255"])
        >>> result.report("audit.html")  # doctest: +SKIP
    """
    if data is None and isinstance(model, Cohort):
        return cast("Audit", _formerly(model))
    models = [model] if isinstance(model, Classifier | str | Path) else list(model)
    classifiers = dict(_named(models))
    cohort = _cohort(data, classifiers, models, trust=bool(settings.get("trust")))
    asked = audit_of(each.access if isinstance(each, Classifier) else access_of(str(each)) for each in models)
    subjects = Subjects(classifiers, {} if isinstance(cohort, str) else {f"{MEMORY}{cohort.name}": cohort})
    temporary = None if out is not None else tempfile.TemporaryDirectory(prefix="dosimeter-audit-")
    config = load_config(
        **{
            "model": [*classifiers, *(str(each) for each in models if not isinstance(each, Classifier))],
            "cohort": [cohort if isinstance(cohort, str) else f"{MEMORY}{cohort.name}"],
            "preset": asked.preset,
            "protocol": asked.protocol,
            "attack": asked.attacks if attacks is None else attacks,
            "effort": effort,
            "epsilons": epsilons,
            "storages": storages,
            "defence": defences,
            "visibility": visibility,
            "test_limit": images,
            "seed": seed,
            "out": Path(out) if temporary is None else Path(temporary.name) / "run",  # type: ignore[arg-type]
            "data_audit": True,
            **settings,
        }
    )
    run_study(config, progress=progress, command="dosimeter.audit(...)", subjects=subjects)
    return Audit(config, subjects, temporary)


class Audit:
    """A finished audit. In a notebook it shows its verdict, the security curve and the table of accuracies.

    Attributes:
        folder: the run's.
    """

    def __init__(self, config: StudyConfig, subjects: Subjects, temporary: Any = None) -> None:
        assert config.out is not None
        self.folder = config.out
        self._config = config
        self._subjects = subjects
        self._temporary = temporary  # gone with this object

    def __str__(self) -> str:
        """Return the answer in a line for each classifier: verdict, epsilon50, worst case."""
        return "\n".join(answer(self.folder))

    def __repr__(self) -> str:
        """Return the same: it is what one looks for."""
        return str(self)

    def _repr_html_(self) -> str:
        import html
        import io

        picture = io.StringIO()
        curve = next((name for name in self.figures if "security" in name), None)
        if curve is not None:
            self.figure(curve).savefig(picture, format="svg")
        said = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())
        table: str = self.table().to_html(index=False)
        return f"{said}{picture.getvalue()[picture.getvalue().find('<svg') :]}{table}"

    @property
    def responses(self) -> Responses:
        """Every answer, as `read_responses` reads them."""
        return read(self.folder / "responses.parquet")

    def table(self, **options: Any) -> pd.DataFrame:
        """Return accuracy by classifier, attack and epsilon, with intervals, as `accuracy_table` does."""
        return accuracy_table(self.responses, **options)

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML file, and return its path."""
        return Path(shutil.copyfile(self.folder / "report.html", path))

    def save(self, folder: str | Path) -> Path:
        """Copy the run folder, which `dosimeter report` reads, and return the copy's path.

        Raises:
            DosimeterError: there is something at that path already.
        """
        target = Path(folder)
        if target.exists():
            raise DosimeterError(f"{target} must not exist yet: a run is not written over. Give another folder.")
        shutil.copytree(self.folder, target, ignore=shutil.ignore_patterns(".lock"))
        return target

    def log_to_mlflow(self, where: str | Path) -> str:
        """Log this run to MLflow, as `dosimeter audit --mlflow` does, and return MLflow's id of it.

        Args:
            where: URI of a server or data base, or a folder (see `report.tracking.open_tracker`).

        Raises:
            DosimeterError: MLflow is missing, or cannot be written to there.
        """
        return track(open_tracker(str(where)), self.folder)

    @property
    def figures(self) -> list[str]:
        """The names of all figures of the report, as their files are called."""
        return [name for name, _ in self._drawn()]

    def figure(self, name: str) -> "Figure":
        """Return a figure of the report, drawn anew.

        Raises:
            DosimeterError: there is none of that name.
        """
        for each, drawing in self._drawn():
            if each == name:
                with names.of(self._compact.meta):
                    figure: Figure = drawing.draw()
                    return figure
        raise DosimeterError(f"there is no figure '{name}'. There are: {', '.join(self.figures)}.")

    @property
    def _compact(self) -> Responses:
        return read_compact(self.folder / "responses.parquet")

    def _drawn(self) -> Iterator[tuple[str, Drawing]]:
        found = self._compact
        with names.of(found.meta):
            yield from list(drawings(*by_finding(found, build_tables(found))))

    def adversarial(
        self,
        attack_with: Attack | str = "apgd",
        epsilon: float | str = "4/255",
        *,
        model: str | None = None,
        finding: str | None = None,
        effort: str = "quick",
        threat: ThreatModel | None = None,
    ) -> Adversarial:
        """Return every image that was audited as a tensor, and as an attack changes it within epsilon.

        Args:
            attack_with: see `dosimeter.attack`.
            epsilon: one budget.
            model: of several the one that is attacked; by default the first.
            finding: of a classifier of several findings the one that the attack is after, on the images of which it is
                known whether it is there: `predicted` is then 1 where it is answered with.
            effort: see `dosimeter.attack`.
            threat: what the attacker may do.

        Returns:
            `images[0]` are the images on the classifier's grid, `images[1]` the adversarial ones; see `Adversarial`.

        Raises:
            DosimeterError: there is no such model or finding, or the images cannot be read again.
        """
        models = dict(zip(self._config.names, self._config.model, strict=True))
        name = model or self._config.names[0]
        if name not in models:
            raise DosimeterError(f"there is no model '{name}'. There are: {', '.join(models)}.")
        own = self._subjects.classifiers.get(models[name])
        subject = own or bring(models[name], trust=self._config.trust)
        trials, _ = plan_trials(self._config, self._subjects)
        subject, trial = _deciding(subject, trials[0], finding)
        cases = list(trial.split.test)
        images = torch.stack([subject.prepare(case) for case in cases])
        labels = torch.tensor([case.label for case in cases])
        options: dict[str, Any] = {"effort": effort, "threat": threat, "seed": self._config.seed}
        return attack(subject, images, labels, attack_with, [epsilon], **options)


def _deciding(subject: Classifier, trial: Trial, finding: str | None) -> tuple[Classifier, Trial]:
    """Return a classifier of several findings, and its images, as one of them sees both; any other as it is."""
    if subject.findings is None:
        if finding is not None:
            raise DosimeterError(f"finding must be left out of a classifier of classes, got '{finding}'.")
        return subject, trial
    if finding not in subject.classes:
        raise DosimeterError(
            f"finding must be one of those of the classifier, {', '.join(subject.classes)}, got "
            f"{'none' if finding is None else named(finding)}. Give finding=..."
        )
    return subject.deciding(finding), trial.of_finding(finding)


def _named(models: Sequence[Classifier | str | Path]) -> Iterator[tuple[str, Classifier]]:
    """Yield the classifiers of a session with the names that settings give them."""
    seen: set[str] = set()
    for each in models:
        if isinstance(each, str | Path):
            continue
        if not isinstance(each, Classifier):
            raise DosimeterError(
                f"model must be a dosimeter.Classifier or the path of a model card, got {type(each).__name__}. A "
                "network of your own becomes one by dosimeter.classifier(net, size_px=..., classes=...)."
            )
        name = str(each.card.get("model", "classifier"))
        if name in seen:
            raise DosimeterError(
                f"model: two are called '{name}'. Give each a name: dosimeter.classifier(..., name=...)."
            )
        seen.add(name)
        yield f"{MEMORY}{name}", _with_facts(each)


def _with_facts(classifier: Classifier) -> Classifier:
    """Return a classifier whose card has what a run's record needs, also if it was made by `Classifier(...)` alone."""
    from dosimeter.models.source import facts_in_memory

    lacking = {name: fact for name, fact in facts_in_memory(classifier).items() if name not in classifier.card}
    return classifier.with_card(**lacking) if lacking else classifier


def _cohort(data: Any, classifiers: dict[str, Classifier], models: Sequence[Any], *, trust: bool) -> Cohort | str:
    if isinstance(data, Cohort | str):
        return data
    if isinstance(data, Path):
        return f"{'folder' if data.is_dir() else 'csv'}:{data}"
    if data is None:
        raise DosimeterError("data must be given: a Cohort, (images, labels), or the name of a cohort.")
    first = next(iter(classifiers.values()), None) or bring(models[0], trust=trust)
    images, labels, *classes = data if isinstance(data, tuple) else (data, None)
    if first.findings is not None and not classes:
        return cohort_of(images, labels, findings=first.classes)
    return cohort_of(images, labels, *(classes or [first.classes]))


def _formerly(cohort: Cohort) -> Any:
    from dosimeter.cohorts.audit import audit as audit_cohort

    warnings.warn(
        "audit(cohort) is now dosimeter.cohorts.audit.audit(cohort), and goes with the next release; "
        "audit_cohort(cohort) says more, and audit(model, data) audits a model.",
        DeprecationWarning,
        stacklevel=3,
    )
    return audit_cohort(cohort)
