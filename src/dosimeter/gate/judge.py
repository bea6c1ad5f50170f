"""Whether a run keeps the rules of a gate: the bound of the interval that speaks against it is what is tested."""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from dosimeter.analysis import names
from dosimeter.analysis.checks import UNRELIABLE, VERDICTS
from dosimeter.analysis.sharing import Shared, shared_cases
from dosimeter.errors import DosimeterError
from dosimeter.gate.numbers import WORST, Measured, Numbers
from dosimeter.gate.rules import METRICS, Rule, parse_rule
from dosimeter.presentation.numbers import dose
from dosimeter.record.table import Responses

Status = Literal["met", "not met", "refused"]
MET: Final = "met"
NOT_MET: Final = "not met"
REFUSED: Final = "refused"

DROPPED = ("clean_accuracy", "robust_accuracy")
"""Metrics that are compared with a baseline's, image by image."""


class Outcome(NamedTuple):
    """What became of one rule for one classifier.

    Attributes:
        rule: as it was typed; of a drop against a baseline, in the same words.
        who: the classifier.
        status: refused is not met either: the number is none to quote.
        because: one sentence with the number, its interval, and which bound was tested.
        value: None where it is not defined or not finite.
        low: lower bound of its 95 % interval.
        high: upper bound.
        n: images.
        evaluation: the verdict on the evaluation that the number belongs to, "" if there is none.
    """

    rule: str
    who: str
    status: Status
    because: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    evaluation: str


class Judgement(NamedTuple):
    """What became of all rules.

    Attributes:
        run_id: of the run.
        version: of dosimeter that made it.
        phantom: whether its images are computed.
        outcomes: of each rule and classifier.
        shared: the images shared with the baseline, None without one.
        incomplete: what the run lacks; such a run keeps no rule.
    """

    run_id: str
    version: str
    phantom: bool
    outcomes: list[Outcome]
    shared: Shared | None
    incomplete: list[str]

    @property
    def met(self) -> bool:
        """Whether every classifier keeps every rule, of a run that lacks nothing."""
        return not self.incomplete and all(each.status == MET for each in self.outcomes)


def judge(
    rules: Sequence[Rule],
    run: Responses,
    *,
    baseline: Responses | None = None,
    max_drop: float | None = None,
    labels: tuple[str, str] = ("the run", "the baseline"),
) -> Judgement:
    """Judge a run.

    A rule with >= or > is tested against the lower bound of the number's 95 % interval, one with <= or < against the
    upper: it is met only if the whole interval keeps it. A number under attack of an UNRELIABLE evaluation, or of one
    that was not examined, is refused. With a baseline the accuracies that rules are about (if none is, that without
    attack and that of the worst case at the epsilon that a run is quoted at) must not have dropped by more than
    `max_drop`, which is tested against the lower bound of the paired difference.

    Args:
        rules: parsed.
        run: rows and facts of a finished run.
        baseline: of an older one on the same images.
        max_drop: a share in [0, 1]; with a baseline, and only then.
        labels: what the two are called in sentences.

    Raises:
        DosimeterError: a rule asks for what the run has not; nothing is asked; or the baseline is of other cases.
    """
    if (baseline is None) != (max_drop is None):
        raise DosimeterError("a baseline and a largest drop go together: give --baseline RUN and --max-drop 0.02.")
    if max_drop is not None and not 0 <= max_drop <= 1:
        raise DosimeterError(f"max-drop is a share from 0 to 1, got {max_drop:g}. Write 0.02 for two points.")
    if not rules and baseline is None:
        raise DosimeterError('a gate must have a rule or a baseline, got none. Try --rule "clean_accuracy >= 0.8".')
    shared = None
    if baseline is not None:
        shared = shared_cases(run, baseline, names=labels)
    with names.of(run.meta):
        numbers = Numbers(run)
        outcomes = [outcome for rule in rules for outcome in _outcomes(rule, numbers)]
        if baseline is not None and max_drop is not None:
            before = Numbers(baseline)
            for rule in _compared(rules, numbers):
                outcomes += [_drop(rule, each, max_drop) for each in numbers.differences(rule, before)]
    meta = run.meta
    return Judgement(
        meta["run_id"], meta["dosimeter_version"], meta["phantom"], outcomes, shared, list(meta["incomplete"])
    )


def _compared(rules: Sequence[Rule], numbers: Numbers) -> list[Rule]:
    """Return what is compared with a baseline, each subject once."""
    own = list({rule.subject: rule for rule in rules if rule.metric in DROPPED}.values())
    if own:
        return own
    default, epsilon = [parse_rule("clean_accuracy >= 0")], numbers.headline
    if epsilon is not None:
        default.append(parse_rule(f"robust_accuracy({WORST}, {epsilon!r}) >= 0"))
    return default


def _outcomes(rule: Rule, numbers: Numbers) -> list[Outcome]:
    found = numbers.of(rule)
    if not found:
        raise DosimeterError(f"a rule must be about a classifier of the run, got '{rule.text}': there is none.")
    return [_verdict(rule, each) if METRICS[rule.metric].kind == "verdict" else _tested(rule, each) for each in found]


def _verdict(rule: Rule, found: Measured) -> Outcome:
    if math.isnan(found.value):
        return _outcome(rule.text, found, REFUSED, "the evaluation was not examined, so nothing speaks for it")
    status: Status = MET if rule.keeps(found.value) else NOT_MET
    return _outcome(rule.text, found, status, f"the verdict is {found.what}")._replace(value=None, low=None, high=None)


def _tested(rule: Rule, found: Measured) -> Outcome:
    if refusal := _refusal(rule, found):
        return _outcome(rule.text, found, REFUSED, refusal)
    kind = METRICS[rule.metric].kind
    bound = found.low if rule.at_least else found.high
    value = _written(found.value, kind)
    of = f" ({found.what})" if found.what else ""
    if math.isnan(found.value):
        return _outcome(rule.text, found, NOT_MET, f"it is not defined for these images{of}")
    if math.isnan(bound):
        return _outcome(
            rule.text, found, NOT_MET, f"it is {value}{of}, and {found.n} images are too few for an interval to test"
        )
    side = "lower" if rule.at_least else "upper"
    status: Status = MET if rule.keeps(bound) else NOT_MET
    words = "keeps" if status == MET else "breaks"
    interval = f"95 % interval {_written(found.low, kind)} to {_written(found.high, kind)}, n = {found.n}"
    said = f"it is {value}{of} ({interval}); the {side} bound {words} {rule.sign} {_written(rule.bound, kind)}"
    return _outcome(rule.text, found, status, said)


def _drop(rule: Rule, found: Measured, max_drop: float) -> Outcome:
    text = f"drop of {rule.subject} <= {_written(max_drop, 'share')}"
    if refusal := _refusal(rule, found):
        return _outcome(text, found, REFUSED, refusal)
    change = f"{100 * found.value:+.1f} points"
    if math.isnan(found.low):
        return _outcome(
            text, found, NOT_MET, f"it changed by {change}, and {found.n} shared images are too few for an interval"
        )
    status: Status = MET if found.low >= -max_drop else NOT_MET
    words = "keeps" if status == MET else "breaks"
    interval = f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, {found.n} shared images, {found.what}"
    return _outcome(text, found, status, f"it changed by {change} ({interval}); the lower bound {words} the rule")


def _refusal(rule: Rule, found: Measured) -> str:
    if not METRICS[rule.metric].attacked:
        return ""
    if found.evaluation == UNRELIABLE:
        return f"its evaluation is {UNRELIABLE}, so the number is none to quote: see the report, and attack harder"
    if found.evaluation not in VERDICTS:
        return "its evaluation was not examined, so nothing says that the attack was not fooled"
    return ""


def _outcome(rule: str, found: Measured, status: Status, because: str) -> Outcome:
    value, low, high = (number if math.isfinite(number) else None for number in found[1:4])
    return Outcome(rule, found.who, status, because, value, low, high, found.n, found.evaluation)


def _written(value: float, kind: str) -> str:
    if math.isinf(value):
        return "beyond the largest epsilon asked"
    if math.isnan(value):
        return "unknown"
    return dose(value) if kind == "epsilon" else f"{100 * value:.1f} %"
