"""A methods paragraph for a paper, every word of it from the run's facts and tables, and what to cite."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.evaluation import evaluation_name
from dosimeter.analysis.intervals import REPLICATES
from dosimeter.analysis.names import attack_title, model_name, storage_name, storages_in_order
from dosimeter.analysis.paired import BY_PATIENT, paired
from dosimeter.analysis.wording import joined, records, unmet
from dosimeter.presentation.numbers import dose, moment, plural
from dosimeter.presentation.patients import unit_of, worded
from dosimeter.report.quoted import Quoted

AUTHORS = "The dosimeter authors"
TITLE = "dosimeter: how small a perturbation breaks a radiology image classifier"
ARTICLE = {
    "author": "Pal, Biprodip and Gupta, Debashis and Rashed-Al-Mahfuz, Md. and Alyami, Salem A. and Moni, Mohammad Ali",
    "title": "Vulnerability in Deep Transfer Learning Models to Adversarial Fast Gradient Sign Attack for COVID-19 "
    "Prediction from Chest Radiography Images",
    "journal": "Applied Sciences",
    "year": "2021",
    "volume": "11",
    "number": "9",
    "pages": "4233",
    "doi": "10.3390/app11094233",
}
"""The study that dosimeter repeats, as CITATION.cff has it."""

_SILENT = ("preset", "name", "effort")


def paragraph(run: Quoted) -> str:
    """Return what was run: images, classifiers, attacks, intervals, verdicts, versions.

    Args:
        run: a finished run, whose names are in force (`analysis.names.of`).
    """
    said = " ".join(sentence for sentence in _sentences(run) if sentence)
    return worded(said, unit=unit_of(run.responses.frame, run.meta))


def cite(meta: Mapping[str, Any]) -> str:
    """Return one line that cites the software and the run."""
    return f"{AUTHORS}. {TITLE}, version {meta['dosimeter_version']}, {meta['created'][:4]} (run {meta['run_id']})."


def bibtex(meta: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """Return BibTeX of the software, the study that it repeats, and the attacks' papers.

    Args:
        meta: the run's facts.
        sources: where each attack comes from, by its title: papers with their numbers at arXiv.
    """
    software = {
        "author": f"{{{AUTHORS}}}",
        "title": TITLE,
        "version": meta["dosimeter_version"],
        "year": meta["created"][:4],
        "note": f"Run {meta['run_id']}",
    }
    entries = [_entry("software", "dosimeter", software), _entry("article", "pal2021vulnerability", ARTICLE)]
    seen = set()
    for title, source in sources.items():
        for authors, year, number in re.findall(r"([A-Z][^;,]*?) (\d{4}), arXiv (\d{4}\.\d{4,5})", source):
            if number in seen:
                continue
            seen.add(number)
            author = authors.replace(" et al.", " and others")
            facts = {"author": author, "year": year, "eprint": number, "archiveprefix": "arXiv", "note": title}
            entries.append(_entry("misc", f"arxiv{number}", facts))
    return "\n\n".join(entries)


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def _sentences(run: Quoted) -> Iterator[str]:
    meta = run.meta
    if meta["phantom"]:
        yield "PHANTOM DATA: computed images are among these; their numbers say nothing about patients."
    if meta["incomplete"]:
        yield f"The run is incomplete: {' '.join(meta['incomplete'])}"
    models = joined([model_name(name) for name in dict.fromkeys(card["model"] for card in meta["classifiers"])])
    yield (
        f"The robustness of {models} to small perturbations was measured with dosimeter {meta['dosimeter_version']} "
        f"(run {meta['run_id']}, {moment(meta['created'])})."
    )
    yield from map(_images, meta["cohorts"])
    yield from dict.fromkeys(map(_classifier, meta["classifiers"]))
    yield from _attacks(run)
    yield from _intervals(run)
    yield from _verdicts(run)
    yield from _made_with(meta)


def _images(card: Mapping[str, Any]) -> str:
    counts = joined([f"{n} {name}" for name, n in card["counts"].items()])
    split = (
        f"{card['n_train']} for training, {card['n_test']} tested" if card["n_train"] else f"{card['n_test']} tested"
    )
    shared = card.get("n_test_sharing_patient")
    patients = f"; {shared} of the tested show a patient who is also in training" if shared else ""
    left_out = f", {card['skipped']} left out" if card["skipped"] else ""
    return (
        f"Images: {card['cohort']}, {plural(card['n'], 'image')} ({counts}{left_out}; SHA-256 {card['sha256'][:12]}), "
        f"{card['protocol']} protocol, seed {card['seed']}: {split}{patients}."
    )


def _classifier(card: Mapping[str, Any]) -> str:
    weights = card["weights"]
    stand_in = ", a stand-in" if weights["stand_in"] else ""
    name = f"{model_name(card['model'])}: weights {weights['name']} ({weights['source']}{stand_in})"
    if not card["history"]:
        return f"{name}; not trained here."
    head, training = _settings(card["head"]), _settings(card["fit"])
    return f"{name}, input as {card['preprocessing']}; head: {head}; training: {training}."


def _settings(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items() if value is not None)


def _attacks(run: Quoted) -> Iterator[str]:
    robust, meta = run.robust, run.meta
    said = []
    for card in meta.get("attacks") or ():
        effort = f", effort {card['effort']}" if card.get("effort") else ""
        more = _settings({name: value for name, value in card.items() if name not in _SILENT})
        said.append(f"{attack_title(card['preset'])} ({more}{effort})" if more else attack_title(card["preset"]))
    if not said:
        said = [attack_title(str(preset)) for preset in robust["preset"].unique()]
    grid = sorted({float(epsilon) for epsilon in robust["epsilon"]})
    yield (
        f"Attacks in the maximum norm: {'; '.join(said)}. Epsilons, as fractions of the image range: "
        f"{', '.join(map(dose, grid))}."
    )
    stored = [storage_name(name) for name in storages_in_order(robust["storage"].unique())]
    yield f"Images were evaluated as {joined(stored)}."
    config = meta.get("config") or {}
    if config.get("target"):
        yield f"Attacks aimed at the class {config['target']}."
    if config.get("native"):
        yield "Images were attacked at their own size, through the resizing."


def _intervals(run: Quoted) -> Iterator[str]:
    clean = run.clean
    if run.robust["ci_low"].notna().any():
        yield "Accuracies have 95 % Wilson intervals by patient."
    methods = sorted(clean.loc[clean["auc_low"].notna(), "auc_method"].dropna().unique())
    if methods:
        yield f"AUCs have 95 % intervals ({joined(methods)})."
    if run.half["epsilon50_low"].notna().any():
        yield "Epsilon50, the median over images of the smallest epsilon that flips them, has its interval from ranks."
    pairs = paired(run.responses.frame)
    if len(pairs):
        used = "; or ".join(sorted({str(method).replace("; ", ", ") for method in pairs["method"].unique()}))
        drawn = f" ({REPLICATES} replicates)" if (pairs["method"] == BY_PATIENT).any() else ""
        yield f"Paired comparisons: {used}{drawn}. Their p is adjusted by Holm's method for the epsilons of a pair."


def _verdicts(run: Quoted) -> Iterator[str]:
    for row in records(run.verdicts):
        because = f" ({unmet(row['because'])})" if row["because"] else ""
        where = f"{model_name(row['model'])} on {row['cohort']}, {row['protocol']} protocol"
        seed = f", seed {row['seed']}" if "seed" in row else ""
        name = evaluation_name(str(row["preset"]), run.verdicts["preset"])
        yield f"Evaluation of {where}{seed}, {name}: {row['verdict']}{because}."


def _made_with(meta: Mapping[str, Any]) -> Iterator[str]:
    engines = dict.fromkeys(plan["name"] for plan in meta.get("engines") or ())
    if engines:
        yield f"Answers were computed by {joined(list(engines))}."
    facts = meta["environment"]
    packages = [f"{name} {facts[name]}" for name in ("python", "torch", "numpy", "scipy", "pandas") if name in facts]
    yield f"Versions: {', '.join(packages)}; {facts.get('platform', 'platform not known')}, {facts.get('device')}."


def facts(run: Quoted) -> dict[str, Any]:
    """Return the same as JSON types: the paragraph, the line to cite, and what they are of."""
    return {"methods": paragraph(run), "cite": cite(run.meta), "run_id": run.meta["run_id"]}


def attacks_of(frame: pd.DataFrame) -> list[str]:
    """Return the attacks of a table, as the registry calls them."""
    names = (str(name).partition(" from ")[0] for name in frame["attack"].unique())
    return list(dict.fromkeys(name for name in names if name))
