"""Examination: would twice the steps, or more starts, have broken more?"""

from collections.abc import Iterator
from functools import partial

from dosimeter.attacks.threat import GOALS
from dosimeter.examinations.base import Examination, Examined, Facts, OneDecision, Question
from dosimeter.examinations.convergence import Escalating, examine_convergence
from dosimeter.record import table as responses


def ask(examined: Examined) -> Iterator[Question]:
    """Ask of every attack that says what more of it is."""
    if examined.classifier.findings is not None and examined.threat.goal != GOALS[0]:
        return  # what is after several findings at once has no loss of its own to climb further
    for one in examined.each_decision:
        for preset in examined.presets:
            if isinstance(preset.attack, Escalating):
                key = [*(cell.cell_id for cell in examined.cells_of(preset.name)), one.name]
                found = partial(_found, preset.attack, preset.name, one, examined)
                told = {**examined.scope, "preset": preset.name, **one.told}
                yield Question(f"{preset.name} with twice the steps", key, found, told)


def _found(attack: Escalating, preset: str, one: OneDecision, examined: Examined) -> list[Facts]:
    cells = examined.cells_of(preset)
    rows = responses.read_parts([examined.parts(cell.cell_id) for cell in cells])
    rows = rows[(rows["made_on"] == "") & (rows["storage"] == "float") & (rows["decision"] == one.name)]
    facts = examine_convergence(attack, one.classifier, one.trial.split.test, rows, cells[0].setting)
    return [facts] if facts else []


ENTRY = Examination(note="whether twice the steps, or more starts, would have broken more", ask=ask)
