"""What a network's outputs decide: which of several classes, or of several findings whether each is there.

A network of two classes is one of `Classes`. Of `Findings` each is a decision of its own between two classes, absent
and present, whose logits are 0 and the finding's logit less that of its threshold: so everything that knows classes
knows findings. `outputs.OneLogit` and `outputs.Finding` make a network of two classes of one that has another head;
behind `Findings` a network keeps its head, and one pass answers all of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError

Labels = Sequence[int | None]
"""What is known of each finding of an image: 1 there, 0 not, None unknown."""


@dataclass(frozen=True)
class Decision:
    """One decision about one image: what of a network's outputs it looks at.

    Attributes:
        name: the finding, or what of several is decided; "" where the outputs are the classes' own logits.
        signs: of each output, 1 or -1 if it counts, with that sign, else 0; () for classes.
        thresholds: of each output, its logit at the decision; () for classes.
        least: the smallest of what counts decides, else the largest.
    """

    name: str = ""
    signs: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    least: bool = False

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits (n, classes) of the decision, from outputs (n, n_outputs)."""
        if not self.signs:
            return outputs
        which = [place for place, sign in enumerate(self.signs) if sign]
        signs = outputs.new_tensor([self.signs[place] for place in which])
        signed = signs * (outputs[:, which] - outputs.new_tensor([self.thresholds[place] for place in which]))
        value = signed.amin(dim=1) if self.least else signed.amax(dim=1)
        return torch.stack([torch.zeros_like(value), value], dim=1)


CLASS = Decision()
"""Which class: the outputs are its logits."""


@dataclass(frozen=True)
class Asked:
    """A decision and its right answer."""

    decision: Decision
    label: int


class Decided(nn.Module):
    """A network with the logits of one decision, as attacks differentiate it."""

    def __init__(self, network: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.network, self.decision = network, decision

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) for images (n, 3, H, W)."""
        return self.decision.logits(self.network(images))


def decided(answers: Callable[[Tensor], Tensor], decision: Decision) -> Callable[[Tensor], Tensor]:
    """Return what answers images with the logits of one decision, from what answers with all outputs."""
    return lambda images: decision.logits(answers(images))


class Decisions(Protocol):
    """What outputs decide."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Each decision that the outputs make about an image."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return how far each decision is on the right side, (n, decisions); NaN where the label is unknown."""

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return which decisions are right, (n, decisions); False where the label is unknown."""

    def asks(self, decision: Decision) -> Decision:
        """Return a decision of another network as it is made here."""


def _margin(decisions: Decisions, outputs: Tensor, labels: Tensor) -> Tensor:
    columns = []
    for place, decision in enumerate(decisions.decisions):
        logits = decision.logits(outputs)  # (n, classes)
        label = labels.reshape(len(outputs), -1)[:, place]
        known = ~label.isnan() if label.is_floating_point() else torch.ones_like(label, dtype=torch.bool)
        index = label.where(known, torch.zeros_like(label)).long()[:, None]
        others = logits.scatter(1, index, -torch.inf).amax(dim=1)
        columns.append((logits.gather(1, index)[:, 0] - others).where(known, torch.nan))
    return torch.stack(columns, dim=1)


@dataclass(frozen=True)
class Classes:
    """One class of several: the largest logit.

    Args:
        names: of the classes, two or more.

    Example:
        >>> three = Classes(("clear", "opacity", "effusion"))
        >>> three.margin(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0])).tolist()
        [[1.0]]
    """

    names: tuple[str, ...]
    decisions: ClassVar[tuple[Decision, ...]] = (CLASS,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) < 2:
            raise DosimeterError(
                f"classes must name two or more, got {self.names}. Put `OneLogit()` or `Finding(place)` of "
                "dosimeter.models.outputs behind a head of one logit, or of several findings; or give "
                "classes=Findings(names)."
            )
        _check_different("classes", self.names)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the true class's logit less the largest other one, (n, 1), from outputs (n, classes), labels (n,)."""
        return _margin(self, outputs, labels)

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return whether the true class has the largest logit, (n, 1)."""
        return self.margin(outputs, labels) > 0

    def asks(self, decision: Decision) -> Decision:
        """Return the decision, as it is made here."""
        return decision


@dataclass(frozen=True)
class Findings:
    """Several findings, each there or not: one logit each, before any sigmoid.

    Args:
        names: of the findings, in the outputs' order.
        thresholds: the probability from which each counts as there; by default 0.5. They are declared, or chosen on
            validation images, never on those that are attacked.

    Example:
        >>> findings = Findings(("opacity", "effusion"), (0.5, 0.2))
        >>> findings.right(torch.tensor([[3.0, -1.0]]), torch.tensor([[1, 0]])).tolist()
        [[True, False]]
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "thresholds", tuple(self.thresholds) or (0.5,) * len(self.names))
        if not self.names:
            raise DosimeterError("findings must name one or more, got none.")
        _check_different("findings", self.names)
        if len(self.thresholds) != len(self.names):
            raise DosimeterError(
                f"thresholds must be one for each of the {len(self.names)} findings, got {len(self.thresholds)}."
            )
        for name, threshold in zip(self.names, self.thresholds, strict=True):
            if not 0 < threshold < 1:
                raise DosimeterError(
                    f"the threshold of {name} must be a probability between 0 and 1, got {threshold}. Try 0.5."
                )

    @property
    def offsets(self) -> tuple[float, ...]:
        """The logit of each threshold."""
        return tuple(math.log(threshold / (1 - threshold)) for threshold in self.thresholds)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Whether each finding is there."""
        return tuple(self._of([int(each == place) for each in range(len(self.names))], name)
                     for place, name in enumerate(self.names))  # fmt: skip

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return how far each finding is on the right side of its threshold, (n, findings), in logits.

        Args:
            outputs: (n, findings).
            labels: (n, findings) of 1, 0 and, where it is unknown, NaN.
        """
        return _margin(self, outputs, labels)

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return which findings are right, (n, findings); False where the label is unknown."""
        return self.margin(outputs, labels) > 0

    def asked(self, labels: Labels, goal: str = "finding", *, right: Sequence[bool] | None = None) -> Iterator[Asked]:
        """Yield what an attack on one image may be after, as decisions with their right answers.

        - "finding": each finding whose label is known, by itself: maximise -s m, with s = 1 where it is there, else -1,
          and m its logit less its threshold's;
        - "any": the most fragile of those that were right: maximise max(-s m) over them; success is a changed report;
        - "hide": minimise the largest m of the findings that are there; success is a report without any of them;
        - "fabricate": maximise the largest m of those that are not there.

        An image for which there is nothing to be after (no finding to hide) yields nothing.

        Args:
            labels: of each finding.
            goal: one of these (`attacks.threat.GOALS`).
            right: which findings are right without attack, for the goal "any".

        Source: Song et al. 2018, arXiv 1901.00546 (goals of attacks on several labels).
        """
        if goal == "finding":
            known = zip(self.decisions, labels, strict=True)
            yield from (Asked(decision, label) for decision, label in known if label is not None)
            return
        there, absent = ([int(label == wanted) for label in labels] for wanted in (1, 0))
        if goal == "any":
            counted = [bool(each) for each in right or ()]
            signs = [(one - none) * kept for one, none, kept in zip(there, absent, counted, strict=True)]
        else:
            signs = there if goal == "hide" else absent
        if any(signs):
            decision = self._of(signs, f"({goal})", least=goal == "any")
            yield Asked(decision, 0 if goal == "fabricate" else 1)

    def asks(self, decision: Decision) -> Decision:
        """Return a decision about the same findings with these thresholds."""
        return replace(decision, thresholds=self.offsets)

    def _of(self, signs: Sequence[int], name: str, *, least: bool = False) -> Decision:
        return Decision(name, tuple(signs), self.offsets, least)


def _check_different(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise DosimeterError(f"{what} must have different names, got '{twice}' twice. Rename one.")
