"""What stands behind the colon of a defence's name: "0.003", or "epsilon=0.003,part=last,epochs=10".

The keys are the fields of the defence's frozen dataclass, whose annotations say what each may be:

    epsilon: Dose = 0.003
    steps: Annotated[int, Within(1, 100)] = 7
    part: Literal["head", "last", "all"] = "last"
"""

from dataclasses import MISSING, Field, fields
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.units import GREY_LEVELS_8BIT

D = TypeVar("D")


class Within(NamedTuple):
    """The range of a number, both ends belonging to it unless `above`.

    Attributes:
        above: whether the lower end does not belong to it.
        unit: said behind the range, as "of the image range".
    """

    least: float
    most: float
    above: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range; no NaN is."""
        return (self.least < value if self.above else self.least <= value) and value <= self.most

    def words(self, what: str) -> str:
        """Return the rule, as "a whole number from 1 to 100"."""
        if self == UNLIMITED:
            return what
        low = f"above {self.least:g} and at most" if self.above else f"from {self.least:g} to"
        return f"{what} {low} {self.most:g}{' ' if self.unit else ''}{self.unit}"


UNLIMITED = Within(float("-inf"), float("inf"))
DOSES = Within(0, 1, above=True, unit="of the image range")
Dose = Annotated[float, DOSES]
"""An epsilon, as a number or "1/255"."""

DOSES_OR_NONE = Within(0, 1, unit="of the image range")
DoseOrNone = Annotated[float, DOSES_OR_NONE]
"""An epsilon that may be 0."""


def parse(kind: type[D], text: str, *, name: str) -> D:
    """Return the dataclass `kind` with the settings in `text`, and its defaults for the others.

    Args:
        kind: a dataclass whose fields are annotated with int, float, str or a Literal of words; `Annotated` with
            `Within` where a number has a range, with None as an alternative where it may be left open.
        text: values by key, separated by commas; the first may go without its key, which is then that of the first
            field, or the one that the class names as its `first`.
        name: what the defence is called.

    Raises:
        DosimeterError: a key is not known or stands twice, or a value is unusable.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Toy:
        ...     epsilon: Dose = 0.003
        ...     steps: Annotated[int, Within(1, 100)] = 7
        >>> parse(Toy, "1/250,steps=3", name="toy")
        Toy(epsilon=0.004, steps=3)
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind, include_extras=True)
    given: dict[str, Any] = {}
    for place, part in enumerate(text.split(",") if text.strip() else []):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            key, value = _first(kind, known, place, key, name), key
        if key not in known:
            raise DosimeterError(f"defence {name} has no setting '{key}'. {did_you_mean(key, known)}")
        if key in given:
            raise DosimeterError(f"defence {name} must be given {key} once, got it twice. Leave one out.")
        given[key] = _value(hints[key], value, f"defence {name}: {key}")
    return kind(**given)


def described(kind: type) -> str:
    """Return the settings of a defence with their defaults, as "epsilon=0.003, part=last", for its note."""
    shown = [(field.name, _default(field)) for field in fields(kind)]
    first = getattr(kind, "first", shown[0][0])
    shown.sort(key=lambda each: each[0] != first)
    return ", ".join(key if value is None else f"{key}={_words(value)}" for key, value in shown)


def _first(kind: type, known: dict[str, Any], place: int, value: str, name: str) -> str:
    """Return the key of a value that stands without one."""
    if place:
        raise DosimeterError(
            f"defence {name} must have KEY=VALUE behind its first setting, got '{value}'. {did_you_mean(value, known)}"
        )
    return str(getattr(kind, "first", next(iter(known))))


def _value(hint: Any, text: str, where: str) -> Any:
    """Return `text` as what a field's annotation says."""
    if type(None) in get_args(hint):  # what may be left open, and was not
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    kind, limits = (hint.__origin__, hint.__metadata__[0]) if get_origin(hint) is Annotated else (hint, UNLIMITED)
    if get_origin(kind) is Literal:
        return _word(get_args(kind), text, where)
    if kind is str:
        return text
    assert kind in (int, float), kind
    return _number(kind, limits, text, where)


def _word(choices: tuple[str, ...], text: str, where: str) -> str:
    if text not in choices:
        remedy = did_you_mean(text, choices)
        raise DosimeterError(f"{where} must be one of {', '.join(choices)}, got '{text}'. {remedy}")
    return text


def _number(kind: type, limits: Within, text: str, where: str) -> float | int:
    """Return the number in `text`; of a float "1/255" too."""
    try:
        number: float = int(text) if kind is int else float(Fraction(text) if "/" in text else text)
    except (ValueError, ArithmeticError):
        number = float("nan")
    if not text.isascii() or not limits.holds(number):
        rule = limits.words("a whole number" if kind is int else "a number")
        raise DosimeterError(f"{where} must be {rule}, got '{text}'. {_remedy(limits, number, text)}")
    return number


def _remedy(limits: Within, number: float, text: str) -> str:
    if limits in (DOSES, DOSES_OR_NONE) and 1 < number <= GREY_LEVELS_8BIT:
        return f"Did you mean {text}/{GREY_LEVELS_8BIT}?"
    return "Correct it, or leave it out."


def _default(field: "Field[Any]") -> Any:
    return None if field.default is MISSING else field.default


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
