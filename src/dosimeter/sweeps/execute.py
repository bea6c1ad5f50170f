"""Executing a cell: the attack once a case, every epsilon and storage from that, then the flips refined."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import DirectionAttack, Problem
from dosimeter.cohorts.base import Record
from dosimeter.cohorts.limits import left_out_because
from dosimeter.engines.base import Engine, TorchEngine
from dosimeter.errors import READ_ERROR, TOO_LARGE, DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import CLASS, Decided, decided
from dosimeter.models.native import ImageTooLarge, Shrinking, native_image, shrink
from dosimeter.record.compact import UNDEFENDED
from dosimeter.sweeps.aiming import aim
from dosimeter.sweeps.answers import Answer, Answers, CheckedAnswers, Question, Stopped, Target
from dosimeter.sweeps.changes import with_changes
from dosimeter.sweeps.flips import Bracket, bisect, first_bracket
from dosimeter.sweeps.paths import Path, Still
from dosimeter.sweeps.plan import SHARD_SIZE, Cell
from dosimeter.visibility.measure import Reference

log = logging.getLogger(__name__)
Row = dict[str, Any]


RECOMPUTED = "Some images were computed again with torch: the engine was sure of an answer that torch does not give."


class Listener(NamedTuple):
    """A classifier that answers, how, and how far its engine may be off in a logit."""

    classifier: Classifier
    engine: Engine
    tolerance: float


class EngineDisagrees(Exception):
    """Torch answered a question differently that the engine was sure of."""


def execute_cell(
    cell: Cell,
    classifier: Classifier,
    engine: Engine | None = None,
    *,
    audience: Sequence[Listener] = (),
    stop: Event | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Return the rows of `cell`, with the columns of `responses.SCHEMA`.

    A case whose image cannot be read, or whose gradient or logits are not finite, gives one row with its error.

    Args:
        engine: computes the answers; by default torch, which also stands in where an engine is found wrong.
        audience: other classifiers that are asked about the same images: whether the attack transfers.
        stop: raises `answers.Stopped` soon after it is set.
        note: told, in a sentence, that the cell was computed again with torch.
    """
    started = time.perf_counter()
    try:
        rows = _Execution(cell, classifier, engine or TorchEngine(classifier), audience, stop).rows()
    except EngineDisagrees as error:
        log.warning("cell %s is computed again with torch: %s", cell.cell_id, error)
        note(RECOMPUTED)
        rows = _Execution(cell, classifier, TorchEngine(classifier), audience, stop).rows()
    share = (time.perf_counter() - started) / max(len(rows), 1)
    return [{**row, "duration_s": share} for row in rows]


def aim_cell(cell: Cell, classifier: Classifier, engine: Engine | None = None) -> list[Target]:
    """Return the cases of `cell` with their adversarial images, the very ones that `execute_cell` asks about.

    A case whose image cannot be read, or whose gradient is not finite, is left out.
    """
    targets, _ = _Execution(cell, classifier, engine or TorchEngine(classifier), (), None).targets()
    return targets


class _Execution:
    """One cell under one engine."""

    def __init__(
        self, cell: Cell, classifier: Classifier, engine: Engine, audience: Sequence[Listener], stop: Event | None
    ) -> None:
        self._cell = cell
        self._classifier = classifier
        self._attack = cell.setting.preset.attack
        self._common = _common(cell, classifier, cell.classifier)
        self._physical = cell.setting.preset.is_physical
        self._changed: dict[str, Path] = {}  # by case, of a physical change
        self._references: dict[str, Reference] = {}  # by case
        self._seen: dict[tuple[str, str, str, float], Mapping[str, float | None]] = {}
        self._records = {record.case_id: record for record in cell.shard.records}
        self._stop = stop
        self._engine = engine
        self._audience = audience
        self._answers = self._open(Listener(classifier, engine, cell.setting.tolerance))
        # A flip refined to 1e-5 deserves torch's own direction; an engine's differs from it by rounding.
        own = cell.setting.refine and isinstance(self._attack, DirectionAttack)
        self._network = classifier if own else engine.network

    def _open(self, listener: Listener) -> Answers | CheckedAnswers:
        """Return what answers for a classifier, with torch's second opinion if another engine does."""
        options: Any = {
            "attack": self._attack.name,
            "batch_size": self._cell.setting.batch_size,
            "stop": self._stop,
            "grid": listener.classifier.grid if self._cell.setting.threat.native else listener.classifier.grid.settled,
        }
        fast = Answers(listener.engine, **options)
        if listener.engine.name == TorchEngine.name:
            return fast
        reference = Answers(TorchEngine(listener.classifier), **options)
        return CheckedAnswers(fast, reference, tolerance=listener.tolerance)

    def targets(self) -> tuple[list[Target], list[Row]]:
        """Return the cases with what the attack found for each, and an error row for each that has none."""
        rows: list[Row] = []
        unaimed: list[Target] = []
        for index, record in enumerate(self._cell.shard.records):
            try:
                case = self._cell.shard[index]
                image = native_image(case) if self._cell.setting.threat.native else self._classifier.prepare(case)
                unaimed += self._asked(record, image, case.bits)
            except (DosimeterError, OSError, ValueError) as error:
                # The reader's own sentence may name the file, and a file a person: the log says it, the table not.
                log.warning("case %s left out: %s", record.case_id, left_out_because(error))
                row = self._error_row(record, TOO_LARGE if isinstance(error, ImageTooLarge) else READ_ERROR)
                rows += [row | named for named in self._named(record)]
        target = self._cell.setting.threat.target
        targets = [each for each in unaimed if each.label == target]  # they are what they should become
        unaimed = [each for each in unaimed if each.label != target]
        for decision in dict.fromkeys(each.decision for each in unaimed):
            mine = [each for each in unaimed if each.decision == decision]
            for start in range(0, len(mine), self._batch_size()):
                aimed, failed = self._aim(mine[start : start + self._batch_size()])
                targets += aimed
                rows += failed
        return targets, rows

    def _named(self, record: Record) -> list[Row]:
        """Return the decision and the label of each row of a case that has no answer."""
        findings, goal = self._classifier.findings, self._cell.setting.threat.goal
        if findings is None:
            return [{}]
        asked = findings.asked(record.findings, goal, right=[True] * len(record.findings))
        return [{"decision": each.decision.name, "label": each.label} for each in asked]

    def _asked(self, record: Record, image: Tensor, bits: int) -> list[Target]:
        """Return a case as what is to be attacked of it: its class, or what is known of its findings."""
        findings = self._classifier.findings
        if findings is None:
            return [Target(record.case_id, record.label, image, Still(), bits=bits)]
        goal, right = self._cell.setting.threat.goal, None
        if goal == "any":
            known = torch.tensor([[float("nan") if each is None else each for each in record.findings]])
            right = findings.right(self._answers.outputs(image, bits=bits)[None], known)[0].tolist()
        return [
            Target(record.case_id, asked.label, image, Still(), bits=bits, decision=asked.decision)
            for asked in findings.asked(record.findings, goal, right=right)
        ]

    def rows(self) -> list[Row]:
        targets, rows = self.targets()
        for question, answer, on_grid in self._sweep(targets):
            record = self._records[question.target.case_id]
            if torch.isfinite(answer.logits).all():
                rows.append(self._row(record, question, answer, on_grid))
            else:
                rows.append(self._error_row(record, "logits are not finite", question))
        return rows + [row for listener in self._audience for row in self._heard(listener, targets)]

    def _heard(self, listener: Listener, targets: Sequence[Target]) -> Iterator[Row]:
        """Yield the rows of another classifier that is asked about the same images, on the grid alone."""
        setting = self._cell.setting
        made_on = self._common["model"]
        common = _common(self._cell, listener.classifier, listener.classifier.name)
        common |= {"made_on": made_on, "maker": self._cell.classifier}
        common |= {"preset": f"{setting.preset.name} from {made_on}"}
        theirs = listener.classifier.decisions
        questions = [
            Question(target._replace(logits=None, decision=theirs.asks(target.decision)), storage, epsilon)
            for target in targets
            for storage in setting.preset.storages
            for epsilon in setting.doses
        ]
        for question, answer in zip(questions, self._open(listener).ask(questions), strict=True):
            record = self._records[question.target.case_id]
            if torch.isfinite(answer.logits).all():
                row = self._row(record, question, answer, on_grid=True)
                yield row | common | {"found": None, "n_gradients": None, "n_queries": None, "certified": None}
            else:
                yield self._error_row(record, "logits are not finite", question) | common

    def _batch_size(self) -> int:
        """Return how many images are attacked together: a search drops those that are done, so it begins with more."""
        batch_size = self._cell.setting.batch_size
        return batch_size if isinstance(self._attack, DirectionAttack) else max(batch_size, SHARD_SIZE)

    def _aim(self, targets: Sequence[Target]) -> tuple[list[Target], list[Row]]:
        """Return the targets with their paths, and an error row for each that has none."""
        if self._physical:
            return self._change(targets), []
        try:
            return aim(targets, self._attack, self._problem(targets), self._cell.setting), []
        except FloatingPointError as error:
            if len(targets) == 1:
                row = self._error_row(self._records[targets[0].case_id], str(error))
                return [], [row | {"decision": targets[0].decision.name, "label": targets[0].label}]
        alone = [self._aim([target]) for target in targets]
        return [target for aimed, _ in alone for target in aimed], [row for _, failed in alone for row in failed]

    def _change(self, targets: Sequence[Target]) -> list[Target]:
        """Return the targets with their images at every severity, which are the same for all decisions."""
        self._tick()
        if any(target.case_id not in self._changed for target in targets):
            made = with_changes(targets, self._cell.setting, self._classifier.device)
            self._changed |= {target.case_id: target.path for target in made}
        return [target._replace(path=self._changed[target.case_id]) for target in targets]

    def _problem(self, targets: Sequence[Target]) -> Problem:
        setting = self._cell.setting
        device = self._classifier.device
        images = torch.stack([target.image for target in targets]).to(device)
        labels = torch.tensor([target.label for target in targets], device=device)
        network, answers = (
            self._behind_resize(targets) if setting.threat.native else (self._network, self._engine.logits)
        )
        (decision,) = {target.decision for target in targets}
        if decision != CLASS:
            network, answers = Decided(network, decision), decided(answers, decision)
        return setting.problem(network, images, labels, fill=setting.threat.fill, answers=answers, tick=self._tick)

    def _behind_resize(self, targets: Sequence[Target]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        """Return what is differentiated and what answers, both behind the loader's resize."""
        (bits,) = {target.bits for target in targets}  # one image: it has a cell for itself
        grid = self._classifier.grid

        def answers(images: Tensor) -> Tensor:
            return self._engine.logits(shrink(images, grid=grid, bits=bits))

        return Shrinking(self._network, grid=grid, bits=bits), answers

    def _tick(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Stopped

    def _sweep(self, targets: Sequence[Target]) -> list[tuple[Question, Answer, bool]]:
        """Return every question and answer of the grid, then those of the flips' refinement."""
        setting = self._cell.setting
        storages = setting.preset.storages
        grid = [
            Question(target, storage, epsilon)
            for target in targets
            for storage in storages
            for epsilon in setting.doses
        ]
        replies = self._answers.ask(grid, witness=self._look)
        asked = [(question, reply, True) for question, reply in zip(grid, replies, strict=True)]
        if not setting.refine:
            return asked
        brackets = []
        for start in range(0, len(grid), len(setting.doses)):
            curve = slice(start, start + len(setting.doses))
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
            "decision": question.target.decision.name,
            "label": question.target.label,
            "storage": question.storage,
            **self._asked_at(question),
            "on_grid": on_grid,
            **answer.dose._asdict(),
            **(self._seen[self._shown(question)] if on_grid else {}),
            "unchanged": answer.unchanged,
            "grad_zero": question.target.grad_zero,
            "found": question.target.path.found(question.epsilon),
            "n_gradients": question.target.n_gradients,
            "n_queries": question.target.n_queries,
            "logits": answer.logits.tolist(),
            "probabilities": torch.softmax(answer.logits.double(), dim=0).tolist(),
            "predicted": predicted,
            "correct": predicted == question.target.label and not answer.rejected,
            "alarm": answer.alarm,
            "abstained": None if answer.alarm is None else answer.rejected,
            "certified": self._certified(question),
            "status": "ok",
        }

    def _certified(self, question: Question) -> float | None:
        """Return the epsilon that is proven for an unperturbed image; None: none is, or it is perturbed."""
        if self._physical or question.epsilon or question.storage != "float":
            return None
        if self._classifier.access != "gradients":
            return None
        proven = self._classifier.certified(question.target.image[None].to(self._classifier.device))
        return None if proven is None else float(proven)

    def _asked_at(self, question: Question) -> Row:
        """Return an attack's epsilon, or a physical change's severity."""
        return {"severity" if self._physical else "epsilon": question.epsilon}

    def _look(self, question: Question, stored: Tensor) -> None:
        """Measure how far a question's image may be seen; every classifier that it is shown to has a row of that."""
        place, target, epsilon = self._shown(question), question.target, question.epsilon
        if place in self._seen:
            return
        if target.case_id not in self._references:
            self._references[target.case_id] = Reference(target.image)
        costly = self._physical or epsilon in self._cell.setting.visibility
        self._seen[place] = self._references[target.case_id].seen(stored, costly=costly)

    def _shown(self, question: Question) -> tuple[str, str, str, float]:
        """What tells a question's image from others; a physical change makes the same one for every decision."""
        case_id, decision, storage, dose = _key(question)
        return case_id, "" if self._physical else decision, storage, dose

    def _error_row(self, record: Record, message: str, question: Question | None = None) -> Row:
        asked: Row = {} if question is None else {
            "storage": question.storage, **self._asked_at(question),
            "decision": question.target.decision.name, "label": question.target.label,
        }  # fmt: skip
        return {**self._common, **self._case(record), **asked, "status": "error", "error": message}

    def _case(self, record: Record) -> Row:
        patients = self._cell.setting.patients
        patient = patients.get(record.unit) if record.unit is not None else None
        return {"case_id": record.case_id, "patient_id": patient, "label": record.label}


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
        if low.departs(bracket.original) or not high.departs(bracket.original):
            raise EngineDisagrees(f"case {bracket.target.case_id} does not flip at epsilon {bracket.high:g}")
        for question, reply in zip(bracket.ends, (low, high), strict=True):
            confirmed[_key(question)] = reply
    return [(question, confirmed.get(_key(question), reply), on_grid) for question, reply, on_grid in asked]


def _key(question: Question) -> tuple[str, str, str, float]:
    return question.target.case_id, question.target.decision.name, question.storage, question.epsilon


def _common(cell: Cell, classifier: Classifier, name: str) -> Row:
    attack = cell.setting.preset.attack
    return {
        "cell_id": cell.cell_id,
        "cohort": cell.shard.name,
        "modality": cell.shard.modality,
        "protocol": cell.setting.protocol,
        "decision": "",
        "positive": 1 if classifier.findings is not None else cell.shard.positive_place,
        "split": cell.setting.split,
        "model": classifier.card.get("model", "classifier"),
        "classifier": name,
        "defence": classifier.card.get("defence", UNDEFENDED),
        "preset": cell.setting.preset.name,
        "unit": cell.setting.preset.unit or None,
        "attack": attack.name,
        "loss": attack.loss,
        "channels": attack.channels,
        "effort": cell.setting.preset.effort,
        "target": cell.setting.threat.target,
        "norm": getattr(attack, "norm", "linf"),
        "seed": cell.setting.seed,
    }
