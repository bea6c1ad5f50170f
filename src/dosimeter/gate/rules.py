"""The rules of a gate: `metric(arguments) >= number`, as people type them, and files of rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dosimeter.analysis.checks import VERDICTS
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import read_toml
from dosimeter.plain import named, shown
from dosimeter.units import Epsilon

Sign = Literal[">=", ">", "<=", "<"]

CLASSIFIER = {"model": "model", "cohort": "cohort", "protocol": "protocol", "seed": "seed", "finding": "decision"}
"""Keywords that narrow a rule to some of the run's classifiers, and the columns that they are of."""

EXAMPLE = '"robust_accuracy(pgd, 1/255) >= 0.6"'


class Metric(NamedTuple):
    """What a rule may be about.

    Attributes:
        note: what it is.
        takes: the names of its arguments; those in brackets may be left out.
        kind: what its values are: shares in [0, 1], epsilons, or verdicts on an evaluation.
        attacked: whether it is a number under attack, which an UNRELIABLE evaluation does not give.
    """

    note: str
    takes: tuple[str, ...] = ()
    kind: Literal["share", "epsilon", "verdict"] = "share"
    attacked: bool = False


METRICS = {
    "clean_accuracy": Metric("accuracy without attack"),
    "auc": Metric("area under the ROC curve without attack, of the positive class against all others"),
    "sensitivity": Metric("sensitivity without attack"),
    "specificity": Metric("specificity without attack"),
    "precision": Metric("precision without attack"),
    "robust_accuracy": Metric("accuracy left by an attack at an epsilon", ("attack", "epsilon"), attacked=True),
    "epsilon50": Metric(
        "epsilon at which half of the correctly classified images have flipped", ("attack",), "epsilon", attacked=True
    ),
    "accuracy": Metric("accuracy left by a physical change at a severity", ("change", "severity")),
    "verdict": Metric("verdict on an evaluation: of `sound`, all attacks, or of `paper`", ("[family]",), "verdict"),
}
"""By the names that rules use. `worst` is an attack too: the worst case over all."""


@dataclass(frozen=True)
class Rule:
    """A rule, parsed.

    Attributes:
        text: as it was typed.
        metric: a key of `METRICS`.
        arguments: of the metric, as typed.
        chosen: keywords: `storage`, or those of `CLASSIFIER`.
        sign: how the metric must compare with the bound.
        bound: what with; of a verdict its place in `VERDICTS`, counted from the worst.
    """

    text: str
    metric: str
    arguments: tuple[str, ...]
    chosen: Mapping[str, str] = field(default_factory=dict)
    sign: Sign = ">="
    bound: float = 0.0

    @property
    def at_least(self) -> bool:
        """Whether large values are good, so that the lower bound of the interval is what is tested."""
        return self.sign in (">=", ">")

    @property
    def subject(self) -> str:
        """What is measured, as typed: the rule without its bound."""
        return _RULE.fullmatch(self.text.strip()).group("subject").strip()  # type: ignore[union-attr]

    def keeps(self, value: float) -> bool:
        """Whether a value keeps the rule."""
        return {
            ">=": value >= self.bound,
            ">": value > self.bound,
            "<=": value <= self.bound,
            "<": value < self.bound,
        }[self.sign]


_RULE = re.compile(
    r"(?P<subject>(?P<metric>[A-Za-z_]\w*)\s*(?:\((?P<arguments>[^()]*)\))?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[^<>=]+)"
)


def parse_rule(text: str) -> Rule:
    """Parse one rule.

    Args:
        text: METRIC(ARGUMENTS) SIGN NUMBER. An argument is a name, an epsilon as 0.003 or 1/255, or KEYWORD=VALUE with
            the keywords storage, model, cohort, protocol, seed and finding; the number may be 0.6, 60 % or 1/255.

    Raises:
        DosimeterError: it does not read so, or names no known metric or keyword.

    Example:
        >>> rule = parse_rule("robust_accuracy(pgd, 1/255, model=vgg16) >= 60 %")
        >>> rule.arguments, rule.chosen, rule.bound
        (('pgd', '1/255'), {'model': 'vgg16'}, 0.6)
    """
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise DosimeterError(f"a rule must read METRIC(ARGUMENTS) >= NUMBER, got {shown(text)}. Try {EXAMPLE}.")
    name = found["metric"]
    if name not in METRICS:
        raise DosimeterError(f"a rule's metric must be known, got {shown(name)}. {did_you_mean(name, METRICS)}")
    metric = METRICS[name]
    arguments, chosen = _arguments(name, found["arguments"] or "")
    sign: Any = found["sign"]
    return Rule(text.strip(), name, arguments, chosen, sign, _bound(name, metric, found["bound"].strip()))


def _arguments(name: str, text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    metric = METRICS[name]
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    plain = tuple(word for word in words if "=" not in word)
    least, most = sum(not each.startswith("[") for each in metric.takes), len(metric.takes)
    if not least <= len(plain) <= most or "" in words:
        takes = f"({', '.join(metric.takes)})" if metric.takes else "no arguments but keywords"
        raise DosimeterError(f"{name} takes {takes}, got ({named(text.strip())}). Try {EXAMPLE}.")
    chosen = {}
    known = [*(["storage"] if metric.kind != "verdict" and metric.takes else []), *CLASSIFIER]
    for word in words:
        keyword, equals, value = (part.strip() for part in word.partition("="))
        if equals and (keyword not in known or not value):
            raise DosimeterError(
                f"a keyword of {name} must be known and have a value, got {shown(word)}. {did_you_mean(keyword, known)}"
            )
        if equals:
            chosen[keyword] = value
    return plain, chosen


def _bound(name: str, metric: Metric, text: str) -> float:
    if metric.kind == "verdict":
        if text not in VERDICTS:
            raise DosimeterError(
                f"a verdict must be compared with one, got {named(text)}. {did_you_mean(text, VERDICTS)}"
            )
        return float(rank(text))
    if metric.kind == "epsilon":
        return float(Epsilon(text))
    try:
        share = text.removesuffix("%").strip()
        value = float(Fraction(share)) / (100 if text.endswith("%") else 1)
    except (ValueError, ArithmeticError):
        raise DosimeterError(f"{name} must be compared with a number, got {shown(text)}. Write 0.6 or 60 %.") from None
    if not 0 <= value <= 1:
        hint = f"Did you mean {text} %?" if 1 < value <= 100 and "%" not in text else "Write 0.6 or 60 %."
        raise DosimeterError(f"{name} is a share from 0 to 1 and must be compared with one, got {named(text)}. {hint}")
    return value


def rank(verdict: str) -> int:
    """Return the place of a verdict, the worst being 0."""
    return len(VERDICTS) - 1 - VERDICTS.index(verdict)


class RuleFile(NamedTuple):
    """What a file of rules says; None where it says nothing."""

    rules: Sequence[str]
    baseline: Path | None
    max_drop: float | None


def read_rules(path: Path) -> RuleFile:
    """Read a TOML file with the keys `rules` (a list of texts), `baseline` (a run, from the file's folder) and
    `max_drop`.

    Raises:
        DosimeterError: it is no such file.
    """
    found = read_toml(path, "file of rules")
    known = ("rules", "baseline", "max_drop")
    for key in found:
        if key not in known:
            raise DosimeterError(f"{named(path)}: '{named(key)}' is no key of rules. {did_you_mean(key, known)}")
    rules, baseline, drop = found.get("rules", []), found.get("baseline"), found.get("max_drop")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise DosimeterError(f"{named(path)}: rules must be a list of texts, got {shown(rules)}. Try [{EXAMPLE}].")
    if baseline is not None and not isinstance(baseline, str):
        raise DosimeterError(f"{named(path)}: baseline must be the folder of a run, got {shown(baseline)}.")
    if drop is not None and (isinstance(drop, bool) or not isinstance(drop, int | float)):
        raise DosimeterError(f"{named(path)}: max_drop must be a number, got {shown(drop)}. Write 0.02.")
    return RuleFile(rules, None if baseline is None else path.parent / baseline, None if drop is None else float(drop))
