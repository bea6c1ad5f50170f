"""Executing a cell: one gradient a case, every epsilon and storage from it, then the flips refined."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch

from dosimeter.cohorts.base import Record
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.responses import READ_ERROR
from dosimeter.sweeps.answers import Answer, Answers, Question, Target
from dosimeter.sweeps.flips import bisect, first_bracket
from dosimeter.sweeps.plan import Cell

log = logging.getLogger(__name__)
Row = dict[str, Any]


def execute_cell(cell: Cell, classifier: Classifier) -> list[Row]:
    """Return the rows of `cell`, with the columns of `responses.SCHEMA`.

    A case whose image cannot be read, or whose gradient or logits are not finite, gives one row with its error.
    """
    started = time.perf_counter()
    setting = cell.setting
    answers = Answers(classifier, attack=setting.preset.attack.name, batch_size=setting.batch_size)
    common = _common(cell, classifier)
    records = {record.case_id: record for record in cell.shard.records}
    targets: list[Target] = []
    rows: list[Row] = []
    for index, record in enumerate(cell.shard.records):
        try:
            targets.append(_aim(cell, classifier, index))
        except FloatingPointError as error:
            rows.append(_error_row(common, cell, record, str(error)))
        except (DosimeterError, OSError, ValueError) as error:
            # The reader's own sentence may name the file, and a file may name a person: the log says it, the table not.
            log.warning("case %s left out: %s", record.case_id, error)
            rows.append(_error_row(common, cell, record, READ_ERROR))
    for question, answer, on_grid in _sweep(targets, setting.preset.storages, setting.epsilons, answers):
        record = records[question.target.case_id]
        if torch.isfinite(answer.logits).all():
            rows.append(_row(common, cell, record, question, answer, on_grid))
        else:
            rows.append(_error_row(common, cell, record, "logits are not finite", question))
    share = (time.perf_counter() - started) / max(len(rows), 1)
    return [{**row, "duration_s": share} for row in rows]


def _aim(cell: Cell, classifier: Classifier, index: int) -> Target:
    case = cell.shard[index]
    image = classifier.prepare(case)
    direction = cell.setting.preset.attack.direction(
        classifier, image[None].to(classifier.device), torch.tensor([case.label], device=classifier.device)
    )
    return Target(case.case_id, case.label, image, direction.sign[0].cpu(), bool(direction.grad_zero[0]))


def _sweep(
    targets: Sequence[Target], storages: Sequence[str], epsilons: Sequence[float], answers: Answers
) -> list[tuple[Question, Answer, bool]]:
    """Return every question and answer of the grid, then those of the flips' refinement."""
    asked: list[tuple[Question, Answer, bool]] = []
    brackets = []
    for target in targets:
        for storage in storages:
            questions = [Question(target, storage, epsilon) for epsilon in epsilons]
            replies = answers.ask(questions)
            asked += [(question, reply, True) for question, reply in zip(questions, replies, strict=True)]
            if bracket := first_bracket(questions, replies):
                brackets.append(bracket)
    asked += [(question, reply, False) for question, reply in bisect(brackets, answers)]
    return asked


def _common(cell: Cell, classifier: Classifier) -> Row:
    attack = cell.setting.preset.attack
    return {
        "cell_id": cell.cell_id,
        "cohort": cell.shard.name,
        "modality": cell.shard.modality,
        "protocol": cell.setting.protocol,
        "split": cell.setting.split,
        "model": classifier.card.get("model", "classifier"),
        "classifier": classifier.name,
        "defence": "none",
        "preset": cell.setting.preset.name,
        "attack": attack.name,
        "loss": attack.loss,
        "channels": attack.channels,
        "norm": "linf",
        "seed": cell.setting.seed,
    }


def _case(cell: Cell, record: Record) -> Row:
    patient = cell.setting.patients.get(record.patient_id) if record.patient_id is not None else None
    return {"case_id": record.case_id, "patient_id": patient, "label": record.label}


def _row(common: Row, cell: Cell, record: Record, question: Question, answer: Answer, on_grid: bool) -> Row:
    predicted = answer.predicted
    return {
        **common,
        **_case(cell, record),
        "storage": question.storage,
        "epsilon": question.epsilon,
        "on_grid": on_grid,
        **answer.dose._asdict(),
        "unchanged": answer.unchanged,
        "grad_zero": question.target.grad_zero,
        "logits": answer.logits.tolist(),
        "probabilities": torch.softmax(answer.logits.double(), dim=0).tolist(),
        "predicted": predicted,
        "correct": predicted == record.label,
        "status": "ok",
    }


def _error_row(common: Row, cell: Cell, record: Record, message: str, question: Question | None = None) -> Row:
    asked = {} if question is None else {"storage": question.storage, "epsilon": question.epsilon}
    return {**common, **_case(cell, record), **asked, "status": "error", "error": message}
