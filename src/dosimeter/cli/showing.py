"""What `dosimeter show` says of one thing."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean

Facts = dict[str, Any]


def facts_of(what: str, name: str) -> Facts:
    """Return what is known of one thing, by what people call each fact.

    Raises:
        DosimeterError: nothing of that kind can be shown, or there is none of that name.
    """
    if what not in KINDS:
        raise DosimeterError(f"'{what}' cannot be shown. {did_you_mean(what, KINDS)}")
    return KINDS[what](name)


def _attack(name: str) -> Facts:
    from dosimeter.cli.listing import attack_facts

    return dict(attack_facts(name))


def _change(name: str) -> Facts:
    from dosimeter.physical.constants import Constants
    from dosimeter.physical.registry import entry

    known, assumed = entry(name), Constants()
    return {
        "what": known.note,
        "of": " and ".join(known.modalities),
        "unit": known.unit,
        "severities": [f"{severity:g}" for severity in known.severities],
        "bounds": f"{known.bounds[0]:g} to {known.bounds[1]:g}, because {known.reason}",
        "constants": [f"{each} {getattr(assumed, each):g}" for each in known.constants],
        "source": known.source,
    }


def _cohort(name: str) -> Facts:
    from dosimeter.cohorts import COHORTS, DATA_VARIABLE
    from dosimeter.cohorts.public import PUBLIC_COHORTS

    if name not in COHORTS:
        raise DosimeterError(f"there is no cohort '{name}'. {did_you_mean(name, COHORTS)}")
    facts: Facts = {"what": COHORTS[name]}
    if name in PUBLIC_COHORTS:
        public = PUBLIC_COHORTS[name]
        data = os.environ.get(DATA_VARIABLE)
        there = data is not None and (Path(data) / public.folder).is_dir()
        facts |= {
            "images": public.n_images,
            "source": public.note,
            "here": "yes" if there else f"no: dosimeter data fetch {name}, and set {DATA_VARIABLE}",
        }
    return facts | {"more": f"dosimeter data info {name}"}


def _model(name: str) -> Facts:
    from dosimeter.models.backbones import get_backbone

    known = get_backbone(name)
    facts: Facts = {
        "what": known.note,
        "title": known.title or known.name,
        "image side": f"{known.size_px} px",
        "base's output": " x ".join(map(str, known.map_shape)),
        "head": ", ".join(f"{key} {value}" for key, value in vars(known.head).items()),
    }
    if known.official is not None:
        facts |= {"weights": known.official.origin.name, "address": known.official.url}
    if known.package is not None:
        facts["package"] = known.package.requirement
    return facts | {"in use": f"dosimeter weights show {name}"}


def _check(name: str) -> Facts:
    known = registry.get("checks", name)
    return {name: getattr(known, name) for name in ("title", "rule", "source", "remedy")}


def _run(name: str) -> Facts:
    from dosimeter.record.run import Run, is_study
    from dosimeter.record.table import read_meta

    folder = Path(name)
    run = Run(folder)
    if not (is_study(folder) or run.responses.is_file()):
        raise DosimeterError(f"{folder} must be the folder of a run, and is none. Name a run's folder.")
    status = run.status
    facts: Facts = {"status": status}
    if status != "finished":
        done = len(list(run.parts.glob("*.parquet"))) if run.parts.is_dir() else 0
        facts |= {
            "units of work done": done,
            "next": f"the same `dosimeter study` again, or dosimeter report --partial {folder}",
        }
    if not run.responses.is_file():
        missing = f"there is no {run.responses.name}: the same `dosimeter study` again writes it"
        return facts if status != "finished" else facts | {"next": missing}
    meta = read_meta(run.responses)
    config = meta.get("config") or {}
    return facts | {
        "run": meta["run_id"],
        "made": f"{meta['created']} with dosimeter {meta['dosimeter_version']}",
        "command": meta["command"],
        "phantom": "yes: computed images" if meta["phantom"] else "no",
        "cohorts": [_trial(card) for card in meta["cohorts"]],
        "models": list(dict.fromkeys(card["model"] for card in meta["classifiers"])),
        "attacks": [card["preset"] for card in meta.get("attacks") or ()],
        "epsilons": list(config.get("epsilons") or ()),
        "rows": meta.get("n_rows"),
        "incomplete": list(meta["incomplete"]),
        "answer": _answer(folder),
    }


def _trial(card: Mapping[str, Any]) -> str:
    return (
        f"{card['cohort']} ({card['protocol']} protocol, seed {card['seed']}): {card['n_test']} of {card['n']} tested"
    )


def _answer(folder: Path) -> list[str]:
    from dosimeter.report.answer import answer

    if not (folder / "summary.json").is_file():
        return [f"there is no summary.json: dosimeter report {folder}"]
    return answer(folder)


LINES = ("cohorts", "incomplete", "answer")
"""Facts of which each part stands on a line of its own."""

KINDS: dict[str, Callable[[str], Facts]] = {
    "attack": _attack,
    "change": _change,
    "check": _check,
    "cohort": _cohort,
    "model": _model,
    "run": _run,
}
"""What can be shown."""
