"""The flip epsilon: the smallest dose along an attack's direction that changes the answer.

That of a stored image is known to a quarter of its file's grey level at best: between two levels there is no other file
to be had from most images. What its file really moved, the realised dose, is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dosimeter.storage.base import get_storage
from dosimeter.sweeps.answers import Answer, Question, Target

FLIP_TOLERANCE = 1e-5
LEVEL_TOLERANCE = 0.25
"""Of a grey level of a file."""

Ask = Callable[[list[Question]], list[Answer]]


@dataclass
class Bracket:
    """Between `low`, which leaves the answer as it was, and `high`, which changes it."""

    target: Target
    storage: str
    original: int  # the predicted class at epsilon 0
    low: float
    high: float

    @property
    def open(self) -> bool:
        """Whether the flip is known less well than `FLIP_TOLERANCE`, or `LEVEL_TOLERANCE` of a stored image's level."""
        levels = get_storage(self.storage).levels
        tolerance = max(FLIP_TOLERANCE, LEVEL_TOLERANCE / levels) if levels else FLIP_TOLERANCE
        return self.high - self.low > tolerance + 1e-12

    @property
    def middle(self) -> float:
        """The epsilon to ask next."""
        return (self.low + self.high) / 2

    @property
    def ends(self) -> tuple[Question, Question]:
        """The two questions whose answers are the flip."""
        return Question(self.target, self.storage, self.low), Question(self.target, self.storage, self.high)

    def narrow(self, answer: Answer) -> None:
        """Keep the half in which the answer changes."""
        if answer.departs(self.original):
            self.high = self.middle
        else:
            self.low = self.middle


def first_bracket(questions: list[Question], answers: list[Answer]) -> Bracket | None:
    """Return the bracket of the first flip on the grid of one case and storage, epsilons ascending from 0.

    None if the case is misclassified or rejected unperturbed, or if no epsilon of the grid changes the answer
    (censored): one that is rejected gives no other.
    """
    target, storage, _ = questions[0]
    original = answers[0].predicted
    if original != target.label or answers[0].rejected:
        return None
    for before, question, answer in zip(questions, questions[1:], answers[1:], strict=False):
        if answer.departs(original):
            return Bracket(target, storage, original, before.epsilon, question.epsilon)
    return None


def bisect(brackets: list[Bracket], ask: Ask) -> list[tuple[Question, Answer]]:
    """Narrow all brackets together until none is open, one batch a step; return everything that was asked."""
    asked: list[tuple[Question, Answer]] = []
    while active := [bracket for bracket in brackets if bracket.open]:
        questions = [Question(bracket.target, bracket.storage, bracket.middle) for bracket in active]
        replies = ask(questions)
        for bracket, reply in zip(active, replies, strict=True):
            bracket.narrow(reply)
        asked += zip(questions, replies, strict=True)
    return asked
