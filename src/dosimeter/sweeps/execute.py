"""Executing a cell: one gradient a case, every epsilon and storage from it, then the flips refined."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import torch
from torch import nn

from dosimeter.attacks.base import Attack
from dosimeter.cohorts.base import Record
from dosimeter.engines.base import Engine, TorchEngine
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.responses import READ_ERROR
from dosimeter.sweeps.answers import Answer, Answers, CheckedAnswers, Question, Target
from dosimeter.sweeps.flips import Bracket, bisect, first_bracket
from dosimeter.sweeps.plan import Cell

log = logging.getLogger(__name__)
Row = dict[str, Any]


class EngineDisagrees(Exception):
    """Torch answered a question differently that the engine was sure of."""


def execute_cell(
    cell: Cell,
    classifier: Classifier,
    engine: Engine | None = None,
    *,
    stop: Event | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Return the rows of `cell`, with the columns of `responses.SCHEMA`.

    A case whose image cannot be read, or whose gradient or logits are not finite, gives one row with its error.

    Args:
        engine: computes the answers; by default torch, which also stands in where an engine is found wrong.
        stop: raises `answers.Stopped` soon after it is set.
        note: told, in a sentence that is the same for all cells, that torch stood in.
    """
    started = time.perf_counter()
    engine = engine or TorchEngine(classifier)
    try:
        rows = _Execution(cell, classifier, engine, stop).rows()
    except EngineDisagrees as error:
        note(
            f"The {engine.name} engine saw flips of {classifier.name} that torch does not: torch did those cells again."
        )
        log.warning("cell %s is computed again with torch: %s", cell.cell_id, error)
        rows = _Execution(cell, classifier, TorchEngine(classifier), stop).rows()
    share = (time.perf_counter() - started) / max(len(rows), 1)
    return [{**row, "duration_s": share} for row in rows]


class _Execution:
    """One cell under one engine."""

    def __init__(self, cell: Cell, classifier: Classifier, engine: Engine, stop: Event | None) -> None:
        self._cell = cell
        self._classifier = classifier
        self._attack = cell.setting.preset.attack
        self._common = _common(cell, classifier)
        self._records = {record.case_id: record for record in cell.shard.records}
        batch_size = cell.setting.batch_size
        fast = Answers(engine, attack=self._attack.name, batch_size=batch_size, stop=stop)
        self._answers: Answers | CheckedAnswers = fast
        if engine.name != TorchEngine.name:
            torch_engine = TorchEngine(classifier)
            reference = Answers(torch_engine, attack=self._attack.name, batch_size=batch_size, stop=stop)
            self._answers = CheckedAnswers(fast, reference, tolerance=cell.setting.tolerance)
        # A flip refined to 1e-5 deserves torch's own direction; an engine's differs from it by rounding.
        self._network = classifier if cell.setting.refine else engine.network

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        unaimed: list[Target] = []
        for index, record in enumerate(self._cell.shard.records):
            try:
                image = self._classifier.prepare(self._cell.shard[index])
                unaimed.append(Target(record.case_id, record.label, image, torch.zeros(()), grad_zero=False))
            except (DosimeterError, OSError, ValueError) as error:
                # The reader's own sentence may name the file, and a file a person: the log says it, the table not.
                log.warning("case %s left out: %s", record.case_id, error)
                rows.append(self._error_row(record, READ_ERROR))
        batch_size = self._cell.setting.batch_size
        targets: list[Target] = []
        for start in range(0, len(unaimed), batch_size):
            aimed, failed = self._aim(unaimed[start : start + batch_size])
            targets += aimed
            rows += failed
        for question, answer, on_grid in self._sweep(targets):
            record = self._records[question.target.case_id]
            if torch.isfinite(answer.logits).all():
                rows.append(self._row(record, question, answer, on_grid))
            else:
                rows.append(self._error_row(record, "logits are not finite", question))
        return rows

    def _aim(self, targets: Sequence[Target]) -> tuple[list[Target], list[Row]]:
        """Return the targets with their directions, and an error row for each that has none."""
        try:
            return aim(targets, self._attack, self._network, self._classifier.device), []
        except FloatingPointError as error:
            if len(targets) == 1:
                return [], [self._error_row(self._records[targets[0].case_id], str(error))]
        alone = [self._aim([target]) for target in targets]
        return [target for aimed, _ in alone for target in aimed], [row for _, failed in alone for row in failed]

    def _sweep(self, targets: Sequence[Target]) -> list[tuple[Question, Answer, bool]]:
        """Return every question and answer of the grid, then those of the flips' refinement."""
        setting = self._cell.setting
        epsilons, storages = setting.epsilons, setting.preset.storages
        grid = [
            Question(target, storage, epsilon) for target in targets for storage in storages for epsilon in epsilons
        ]
        replies = self._answers.ask(grid)
        asked = [(question, reply, True) for question, reply in zip(grid, replies, strict=True)]
        if not setting.refine:
            return asked
        brackets = []
        for start in range(0, len(grid), len(epsilons)):
            curve = slice(start, start + len(epsilons))
            if bracket := first_bracket(grid[curve], replies[curve]):
                brackets.append(bracket)
        asked += [(question, reply, False) for question, reply in bisect(brackets, self._answers.ask)]
        if isinstance(self._answers, CheckedAnswers):
            asked = _confirmed(asked, brackets, self._answers)
        return asked

    def _row(self, record: Record, question: Question, answer: Answer, on_grid: bool) -> Row:
        predicted = answer.predicted
        return {
            **self._common,
            **self._case(record),
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

    def _error_row(self, record: Record, message: str, question: Question | None = None) -> Row:
        asked = {} if question is None else {"storage": question.storage, "epsilon": question.epsilon}
        return {**self._common, **self._case(record), **asked, "status": "error", "error": message}

    def _case(self, record: Record) -> Row:
        patients = self._cell.setting.patients
        patient = patients.get(record.patient_id) if record.patient_id is not None else None
        return {"case_id": record.case_id, "patient_id": patient, "label": record.label}


def aim(targets: Sequence[Target], attack: Attack, network: nn.Module, device: torch.device) -> list[Target]:
    """Return `targets` with the direction in which `attack` pushes each, the gradients taken through `network`."""
    images = torch.stack([target.image for target in targets]).to(device)
    direction = attack.direction(network, images, torch.tensor([target.label for target in targets], device=device))
    signs, zeros = direction.sign.cpu(), direction.grad_zero.tolist()
    answers = [None] * len(targets) if direction.logits is None else list(direction.logits.float().cpu())
    return [
        target._replace(sign=sign, grad_zero=zero, logits=logits)
        for target, sign, zero, logits in zip(targets, signs, zeros, answers, strict=True)
    ]


def _confirmed(
    asked: list[tuple[Question, Answer, bool]], brackets: Sequence[Bracket], answers: CheckedAnswers
) -> list[tuple[Question, Answer, bool]]:
    """Return `asked` with torch's answers at both ends of every flip.

    Raises:
        EngineDisagrees: torch sees no flip there.
    """
    ends = [question for bracket in brackets for question in bracket.ends]
    replies = answers.confirm(ends)
    confirmed = {}
    for bracket, low, high in zip(brackets, replies[::2], replies[1::2], strict=True):
        if low.predicted != bracket.original or high.predicted == bracket.original:
            raise EngineDisagrees(f"case {bracket.target.case_id} does not flip at epsilon {bracket.high:g}")
        for question, reply in zip(bracket.ends, (low, high), strict=True):
            confirmed[_key(question)] = reply
    return [(question, confirmed.get(_key(question), reply), on_grid) for question, reply, on_grid in asked]


def _key(question: Question) -> tuple[str, str, float]:
    return question.target.case_id, question.storage, question.epsilon


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
