"""Examination: the images of the cases that the figures show, small enough to travel with the rows."""

from collections.abc import Iterator
from functools import partial

from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.attacks.presets import PRESETS
from dosimeter.examinations.base import Examination, Examined, Facts, Question
from dosimeter.examinations.pictures import picture
from dosimeter.record import table as responses


def ask(examined: Examined) -> Iterator[Question]:
    """Ask of the first repeat, on the classifier's grid, where FGSM as published or as it should be is swept."""
    if examined.settings.pictured and not examined.threat.native:
        key = [cell.cell_id for cell in examined.cells]
        yield Question("the images of the figures", key, partial(_found, examined), {"seed": examined.scope["seed"]})


def _found(examined: Examined) -> list[Facts]:
    rows = responses.read_parts([examined.parts(cell.cell_id) for cell in examined.cells])
    found = []
    decisions = {one.name: one for one in examined.each_decision}
    for chosen in choose_exemplar(rows).to_dict("records"):
        one = decisions.get(str(chosen.get("decision", "")))
        if one is None or chosen["preset"] not in PRESETS:
            continue  # about several findings at once; or an attack that the figures of single images do not show
        keys = {key: str(chosen[key]) for key in ("cohort", "protocol", "model", "preset", "case_id")}
        setting = examined.cells_of(keys["preset"])[0].setting
        shown = picture(one.trial.split.test, keys["case_id"], one.classifier, setting)
        found.append({**keys, **one.told, **shown})
    return found


ENTRY = Examination(note="the images of the cases that the figures show", ask=ask, folder="pictures")
