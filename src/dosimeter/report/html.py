"""The report: one HTML file with everything in it, no script, nothing loaded from anywhere."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from dosimeter.analysis.findings import Finding, findings
from dosimeter.analysis.names import attack_title, model_name, place, series_name, storage_kind
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import first_repeat, seeds
from dosimeter.analysis.verdict import verdict
from dosimeter.analysis.visibility import reader_statement
from dosimeter.analysis.wording import MARKS
from dosimeter.figures import FigureFile
from dosimeter.record.table import Responses
from dosimeter.report import numbers, sentences
from dosimeter.report.attacks import attack_sentences, attack_tables, attack_words
from dosimeter.report.glossary import GLOSSARY
from dosimeter.report.paired import paired_tables, seed_tables
from dosimeter.report.readers import reader_sentences, reader_views
from dosimeter.report.repeats import repeat_tables
from dosimeter.report.storage import storage_sentences, storage_tables
from dosimeter.report.tables import View, all_tables
from dosimeter.report.trust import trust
from dosimeter.report.visibility import visibility_sentences, visibility_tables

MAX_BYTES = 10_000_000
_IMAGES_BYTES = 8_500_000  # of base64, leaving room for the tables

PROTOCOLS = {
    "paper": "random 80:20 split of images, stratified by class: images of one patient may lie on both sides",
    "patient": "about 80:20 by patient, stratified by class: no patient lies on both sides",
    "official": "the split that came with the images",
}
LOSSES = {
    "keras_bce": "cross-entropy of probabilities clipped to [1e-7, 1 - 1e-7] (the paper's framework)",
    "margin": "logit of the other class less that of the true class; its gradient does not vanish",
    "cross_entropy": "cross-entropy from logits",
    "none": "none",
}
CHANNELS = {
    "free": "each colour channel moves on its own",
    "tied": "the three channels of a grey image move together",
}


_WORDS = Markup("<!-- the words of this page -->")


class Picture(NamedTuple):
    """A figure on the page; `source` is None where the file's limit left no room for it."""

    figure: FigureFile
    source: str | None


def write_report(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[FigureFile],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file, smaller than `MAX_BYTES`.

    Args:
        responses: the run's table and meta.
        tables: as `analysis.tables.build_tables` returns them.
        figures: as `figures.write_figures` returns them.
        path: the file.
        title: the page's heading; by default it names the cohorts.
    """
    path.write_text(render(responses, tables, figures, title=title), encoding="utf-8")


def render(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[FigureFile],
    *,
    title: str | None = None,
) -> str:
    """Return the page that `write_report` writes."""
    meta = responses.meta
    first, firsts = first_repeat(responses, tables)
    every = seeds(responses)
    trials = [(card["cohort"], card["protocol"]) for card in first.meta["cohorts"]]
    cohorts = ", ".join(dict.fromkeys(cohort for cohort, _ in trials))
    several = "robust_accuracy" in firsts
    seen, stored = "visibility" in firsts, "survival" in firsts
    studies = meta.get("readers", [])
    subject = any(is_subject(*each) for each in responses.frame[["cohort", "model"]].drop_duplicates().to_numpy())
    judged = list(trust(firsts["evaluation"], trials)) if "evaluation" in firsts else []
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("percent", "seconds", "moment")}
    environment.filters |= {"model": model_name, "attack": attack_title}
    template = environment.get_template("report.html")
    said: dict[str, Any] = dict(
        title=("PARTIAL: " if meta.get("partial") else "") + (title or f"Robustness to small perturbations: {cohorts}"),
        partial=bool(meta.get("partial")),
        css=_template("style.css") + (_template("trust.css") if judged else ""),
        meta=meta,
        cohorts=first.meta["cohorts"],
        native=bool(meta.get("config", {}).get("native")),
        seeds=every,
        presets=_presets(responses.frame),
        protocols=PROTOCOLS,
        failures=_failures(responses.frame),
        verdict=verdict(responses, tables),
        findings=_by_claim(findings(responses, tables)),
        tables=[*all_tables(_of_study(firsts), trials), *paired_tables(firsts["paired"], trials)],
        trust=judged,
        marks=MARKS,
        number=_numbers(
            trust=bool(judged),
            storage=stored,
            attacks=several,
            visibility=seen,
            repeats=len(every) > 1,
            studies=bool(studies),
            claims=subject,
        ),
        subject=subject,
        storage=list(storage_tables(firsts, trials)) if stored else [],
        storage_sentences=storage_sentences(firsts, first.meta) if stored else [],
        attacks=list(attack_tables(firsts, trials, first.meta)) if several else [],
        attack_sentences=attack_sentences(firsts, first.meta) if several else [],
        visibility=list(visibility_tables(firsts, first.meta)) if seen else [],
        visibility_sentences=visibility_sentences(firsts, first.meta) if seen else [],
        readers=reader_statement(meta),
        **_frame(first, firsts, subject=subject),
        caught=any(study["catch"] for study in studies),
        studies=list(reader_views(studies, tables)),
        study_sentences=list(reader_sentences(studies, tables)),
        simulated=any(study["simulated"] for study in studies),
        repeats=_repeats(tables, trials) if len(every) > 1 else [],
        pictures=embed(figures),
        engines=meta.get("engines", []),
        stages=_stages(meta.get("stages", [])),
    )
    page = template.render(**said, words=_WORDS)
    return page.replace(_WORDS, _words_of(page))


def _frame(first: Responses, firsts: Mapping[str, pd.DataFrame], *, subject: bool) -> dict[str, Any]:
    """Return what the page says around its numbers."""
    published = sentences.are_published(firsts)
    several, models = sentences.several_images(first.frame), list(first.frame["model"].unique())
    cohorts = list(dict.fromkeys(card["cohort"] for card in first.meta["cohorts"]))
    return {
        "published": published,
        "tables_title": "Tables beside the paper’s" if published else "Tables",
        "foreign": sentences.joined([cohort for cohort in cohorts if not is_subject(cohort)]),
        "beyond": sentences.beyond_fgsm(first.frame),
        "worst_case": sentences.has_worst_case(firsts),
        "grey_files": sentences.grey_files(firsts),
        "called_visible": subject,
        "attackers": sentences.attackers(first.frame),
        "interval_rules": sentences.interval_rules(firsts, several=several),
        "limits": [
            *sentences.limits(first.meta, firsts["clean_metrics"], models, several=several),
            *sentences.simulations(firsts, several=several, readers=bool(first.meta.get("readers"))),
        ],
    }


def _words_of(page: str) -> str:
    """Return the entries of the glossary whose words stand in a page."""
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).lower()
    there = ((word, meaning) for word, meaning in GLOSSARY.items() if any(part in text for part in word.split(", ")))
    return "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>\n" for word, meaning in there)


def embed(figures: Sequence[FigureFile], *, limit: int = _IMAGES_BYTES) -> list[Picture]:
    """Return the figures as data addresses: SVG or PNG, whichever is smaller.

    Where all together would pass `limit` bytes they become lossless WebP, and if that is not enough the largest are
    left out.
    """
    sources: list[str | None] = [_smaller(figure) for figure in figures]
    if _total(sources) > limit:
        sources = [_webp(figure.path_png) for figure in figures]
    while _total(sources) > limit:
        largest = max(range(len(sources)), key=lambda index: len(sources[index] or ""))
        sources[largest] = None
    return [Picture(figure, source) for figure, source in zip(figures, sources, strict=True)]


def _total(sources: Sequence[str | None]) -> int:
    return sum(len(source or "") for source in sources)


def _smaller(figure: FigureFile) -> str:
    svg, png = figure.path_svg.read_bytes(), figure.path_png.read_bytes()
    return _data_url("image/svg+xml", svg) if len(svg) < len(png) else _data_url("image/png", png)


def _webp(png: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").save(buffer, format="WEBP", lossless=True)
    return _data_url("image/webp", buffer.getvalue())


def _data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _numbers(**optional: bool) -> dict[str, int]:
    """Return the number of each section that is there, by its anchor; of the optional ones those that are True."""
    names = (
        *("done", "verdict", "trust", "tables", "figures", "storage", "attacks", "visibility"),
        *("repeats", "studies", "claims", "provenance", "limits"),
    )
    there = [name for name in names if optional.get(name, True)]
    return {name: index for index, name in enumerate(there, start=1)}


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _presets(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Return what each preset of the run does, one entry for each storage."""
    columns = ["preset", "attack", "loss", "channels", "effort", "storage"]
    rows = frame.loc[frame["status"] == "ok", columns].drop_duplicates().to_dict("records")
    return [
        {
            "name": series_name(row["preset"], row["storage"]),
            "attack": attack_words(row["attack"], row["effort"]),
            "loss": LOSSES.get(row["loss"], row["loss"]),
            "channels": CHANNELS.get(row["channels"], row["channels"]),
            "storage": storage_kind(row["storage"]).what,
        }
        for row in sorted(rows, key=lambda row: (place(row["preset"]), row["storage"]))
    ]


def _of_study(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables with what stands beside the paper's numbers: FGSM alone."""
    half = tables["epsilon50"]
    return {**tables, "epsilon50": half[half["preset"].isin(tables["fgsm_accuracy"]["preset"].unique())]}


def _failures(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return how many images failed for each cohort, protocol, model and reason."""
    failed = frame[frame["status"] != "ok"]
    groups = failed.groupby(["cohort", "protocol", "model", "error"], dropna=False)["case_id"].nunique()
    return groups.rename("n").reset_index().to_dict("records")


def _by_claim(found: Sequence[Finding]) -> dict[tuple[str, str], list[Finding]]:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        groups.setdefault((finding.claim, finding.source), []).append(finding)
    return groups


def _repeats(tables: Mapping[str, pd.DataFrame], trials: Sequence[tuple[str, str]]) -> list[View]:
    return [*repeat_tables(tables["repeats"], trials), *seed_tables(tables["paired"], trials)]


def _stages(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"rows": stages, "total_s": sum(stage["duration_s"] for stage in stages)}
