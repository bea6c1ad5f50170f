"""Settings behind a defence's colon: values by key, ranges, fractions, and what is said of mistakes."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from dosimeter.defences.settings import Dose, DoseOrNone, Within, described, parse
from dosimeter.errors import DosimeterError


@dataclass(frozen=True)
class Toy:
    epsilon: Dose = 0.003
    part: Literal["head", "last", "all"] = "last"
    steps: Annotated[int, Within(1, 100)] = 7
    beta: float = 6.0
    rate: Annotated[float, Within(0, 1, above=True)] | None = None
    ramp: DoseOrNone = 0.0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Toy()),
        (" ", Toy()),
        ("0.009", Toy(epsilon=0.009)),
        ("1/250", Toy(epsilon=0.004)),
        ("0.009,steps=3", Toy(epsilon=0.009, steps=3)),
        ("steps = 3, part=head", Toy(steps=3, part="head")),
        ("beta=-2,rate=1e-4,ramp=0", Toy(beta=-2.0, rate=1e-4)),
    ],
)
def test_values_go_to_their_fields_and_the_first_may_go_without_a_key(text: str, wanted: Toy) -> None:
    assert parse(Toy, text, name="toy") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epsilom=0.1", "defence toy has no setting 'epsilom'. Did you mean 'epsilon'?"),
        ("depth=3", "defence toy has no setting 'depth'. Choose from: beta, epsilon"),
        ("0.1,7", "must have KEY=VALUE behind its first setting, got '7'"),
        ("steps=1,steps=2", "must be given steps once"),
        ("steps=1,epsilon=0.1,0.2", "must have KEY=VALUE behind its first setting"),
        ("0.1,epsilon=0.1", "must be given epsilon once"),
        ("4", "epsilon must be a number above 0 and at most 1 of the image range, got '4'. Did you mean 4/255?"),
        ("0", "epsilon must be a number above 0"),
        ("1/0", "got '1/0'"),
        ("nan", "got 'nan'"),
        ("inf", "got 'inf'"),
        ("beta=nan", "beta must be a number, got 'nan'"),
        ("steps=0", "steps must be a whole number from 1 to 100, got '0'"),
        ("steps=2.5", "steps must be a whole number from 1 to 100, got '2.5'"),
        ("steps=²", "got '²'"),
        ("part=Last", "part must be one of head, last, all, got 'Last'. Did you mean 'last'?"),
        ("part=", "got ''"),
        ("steps=", "got ''"),
        (",", "got ''"),
        ("rate=2", "rate must be a number above 0 and at most 1, got '2'"),
    ],
)
def test_a_mistake_is_one_sentence_with_a_remedy(text: str, said: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        parse(Toy, text, name="toy")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_described_with_their_defaults() -> None:
    assert described(Toy) == "epsilon=0.003, part=last, steps=7, beta=6, rate, ramp=0"
