"""The items of frameworks toward which a run is evidence, each sentence made of the run's own numbers."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis.evaluation import SOUND, overall
from dosimeter.analysis.names import WORST_CASE, attack_title, family, model_name
from dosimeter.analysis.taxonomy import taxonomy
from dosimeter.analysis.wording import clean_accuracy, joined, records
from dosimeter.presentation.numbers import dose, plural
from dosimeter.presentation.patients import Unit, unit_of

COLUMNS = ["cohort", "protocol", "framework", "item", "shows", "lacks"]

ATLAS, NIST = "MITRE ATLAS 5.6.0", "NIST AI 100-2e2025"
AI_ACT, FDA = "EU AI Act (2024/1689)", "FDA draft guidance on AI-enabled device software functions (January 2025)"
IEC, ISO = "IEC 81001-5-1:2021", "ISO/IEC TR 24029-1:2021"
METRICS, CLAIM = "METRICS 2024 (Insights into Imaging 15:8)", "CLAIM (2024 update)"

Row = tuple[str, str, str, str]


class Trial(NamedTuple):
    """One cohort of a run, as the classifiers met it: its answers, the run's facts, its tables of the first seed."""

    frame: pd.DataFrame
    meta: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def unit(self) -> Unit | None:
        """Whose images intervals take together (`unit_of`)."""
        return unit_of(self.frame, self.meta)


def evidence(frame: pd.DataFrame, meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Yield (framework, item, what the run shows, what it does not) of one cohort."""
    trial = Trial(frame, meta, {name: _first_seed(table) for name, table in tables.items()})
    clean = records(trial.tables["clean_metrics"])
    accuracy = "; ".join(f"{_answering(row)} {clean_accuracy(row)}" for row in clean)
    robust, judged = _robustness(trial.tables), _judged(trial.tables)
    yield from _security(trial, robust, judged)
    yield from _regulation(trial, accuracy, robust, judged)
    yield from _reporting(trial, robust)


def _security(trial: Trial, robust: str, judged: str) -> Iterator[Row]:
    known = taxonomy(trial.frame)
    attacks = known[known["role"] != "control"]
    for technique, group in attacks[attacks["atlas"].fillna("") != ""].groupby("atlas", sort=True):
        yield (
            ATLAS,
            f"AML.T0015 Evade AI Model; {technique}",
            f"{_tried(group)}. {robust}",
            ("Manual modification, physical access and poisoned training (T0043.003, T0041, .004) were not tried."),
        )
    for threat, group in attacks[attacks["nist"].fillna("") != ""].groupby("nist", sort=True):
        yield (
            NIST,
            f"{threat}",
            f"Goal: {_goal(trial)}; capability: {_capability(trial)}; {_tried(group)}. {judged}",
            ("Poisoning and privacy attacks were not tried."),
        )
    defences = sorted(set(trial.frame["defence"].astype(str)) - {"none"})
    if defences:
        yield (
            ATLAS,
            "Mitigations AML.M0003, M0010, M0015",
            (
                f"{joined(defences)} judged beside none, by attacks on the defended classifier itself and by images "
                "made on the undefended one."
            ),
            "How a defence is run and monitored in service.",
        )


def _regulation(trial: Trial, accuracy: str, robust: str, judged: str) -> Iterator[Row]:
    n, n_units = trial.frame["case_id"].nunique(), trial.frame["patient_id"].dropna().nunique()
    images = plural(n, "test image") + (f" of {plural(n_units, trial.unit)}" if trial.unit else "")
    yield (
        AI_ACT,
        "Art. 15(3), accuracy to be declared",
        f"{accuracy}; on {images}.",
        ("Whether these images are those of the intended use."),
    )
    yield (
        AI_ACT,
        "Art. 15(5), adversarial examples and model evasion",
        f"{robust} {judged}",
        ("Measures to prevent, detect and respond, beside defences that are judged here."),
    )
    yield (
        FDA,
        "Model evasion, of the threats to AI",
        f"{robust} {judged}",
        ("The other threats, the device around the classifier, and its users."),
    )
    versions = trial.meta.get("environment", {})
    yield (
        IEC,
        "Threat mitigation testing",
        (
            f"A test that can be repeated: command, settings, digests of classifier and images, versions "
            f"(torch {versions.get('torch', 'not recorded')}) and every answer are in the run's table."
        ),
        "Penetration testing by an independent tester.",
    )
    yield (
        ISO,
        "Empirical and statistical assessment of robustness",
        (f"Accuracy against perturbation budget with 95 % intervals, {_capability(trial)}."),
        "Formal proof: an attack that finds nothing proves nothing.",
    )


def _reporting(trial: Trial, robust: str) -> Iterator[Row]:
    yield METRICS, "17, robustness assessment of the pipeline", robust, "Robustness to scanner, site and population."
    yield (
        METRICS,
        "18, data partitioning",
        ("All images that were attacked are test images: nothing was trained on them here."),
        "On which images the classifier was trained: whoever brings it knows.",
    )
    yield (
        METRICS,
        "21, uncertainty",
        (
            "Shares have 95 % intervals, or say why they have none"
            f"{f', which take images of one {trial.unit} together' if trial.unit else ''}."
        ),
        "Uncertainty from training: one classifier was trained once.",
    )
    if "ece" in trial.tables["clean_metrics"]:
        errors = "; ".join(
            f"{_answering(row)} {row['ece']:.3f}"
            for row in records(trial.tables["clean_metrics"])
            if pd.notna(row["ece"])
        )
        yield (
            METRICS,
            "22, calibration",
            f"Expected calibration error of unperturbed images: {errors}."
            if errors
            else "Not measured: labels alone have no probability.",
            ("Calibration at the prevalence of the intended use."),
        )
    yield CLAIM, "Robustness or sensitivity analysis", robust, "A clinical reading of what a wrong answer would cause."


def _first_seed(table: pd.DataFrame) -> pd.DataFrame:
    return table if "seed" not in table or table.empty else table[table["seed"] == table["seed"].min()]


def _answering(row: Mapping[str, Any]) -> str:
    """Return what answers in a row of a table: a classifier and, of several findings, which of them is decided."""
    decision = row.get("decision")
    return f"{model_name(row['model'])}, {decision}" if decision else model_name(row["model"])


def _robustness(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the epsilon50 of every classifier, of several findings of each, under its worst case or only attack."""
    table = tables["epsilon50"]
    table = table[table["storage"] == "float"]
    keys = [name for name in ("model", "decision") if name in table]
    parts = []
    for _, group in table.groupby(keys, sort=False):
        own = {row["preset"]: row for row in records(group)}
        who = _answering(next(iter(own.values())))
        attacks = [name for name in own if family(name) != "control" and " from " not in name]
        name = next((each for each in (WORST_CASE, "sound", *attacks) if each in own), None)
        if name is None:
            parts.append(f"{who}: no attack was tried, noise alone")
            continue
        row = own[name]
        if not row["n"]:
            parts.append(f"{who} none, as no image is classified correctly without attack")
            continue
        half = (
            f"above {dose(row['epsilon_max'])}"
            if row["censored"]
            else f"{dose(row['epsilon50'])} of the range from black to white"
        )
        if not row["censored"] and pd.notna(row["epsilon50_low"]):
            high = "beyond the largest asked" if row["high_censored"] else dose(row["epsilon50_high"])
            half += f", 95 % interval {dose(row['epsilon50_low'])} to {high}"
        parts.append(f"{who} {half} ({attack_title(name)}, n = {row['n']})")
    return f"Epsilon at which half of the images classified correctly break: {'; '.join(parts)}."


def _judged(tables: Mapping[str, pd.DataFrame]) -> str:
    checks = tables.get("evaluation")
    if checks is None or checks.empty:
        return "The evaluation was not judged."
    verdicts = overall(checks)
    own = verdicts[verdicts["preset"] == SOUND]
    said = [f"{_answering(row)} {row['verdict']}" for row in records(own if len(own) else verdicts)]
    return f"The evaluation itself was judged: {'; '.join(dict.fromkeys(said))}."


def _tried(group: pd.DataFrame) -> str:
    names = list(dict.fromkeys(attack_title(name) for name in group["preset"]))
    return f"Tried: {joined(names)}"


def _goal(trial: Trial) -> str:
    """Return what the attacks were after, of several findings about each of them."""
    target = trial.meta.get("config", {}).get("target")
    if set(trial.frame["decision"].astype(str)) != {""}:
        return f"of each finding the answer of '{target}'" if target else "another answer about the finding"
    return f"the class '{target}'" if target else "any other class than the true one"


def _capability(trial: Trial) -> str:
    epsilons = sorted(set(trial.frame.loc[trial.frame["on_grid"], "epsilon"].dropna()) - {0.0})
    span = (
        f"{dose(epsilons[0])} to {dose(epsilons[-1])}"
        if len(epsilons) > 1
        else dose(epsilons[0])
        if epsilons
        else "none"
    )
    return f"changes of each pixel up to epsilon {span} of the range from black to white"
