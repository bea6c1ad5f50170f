"""What a run measured of a classifier beside its rows, typed: before it was attacked, after, and by a model observer.

A check reads of a measurement whatever it likes once something was measured, `n` being above 0.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dosimeter.record.typed import Count, Scope, Typed


class Measurement(Typed):
    """What was measured of `n` images. Of none nothing more need be there; of others everything must be.

    Attributes:
        later: what older versions did not measure.
        of_n: counts of these n.
    """

    later: ClassVar[tuple[str, ...]] = ()
    of_n: ClassVar[tuple[str, ...]] = ()
    n: Count

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.n:
            for name in type(self).model_fields:
                if name not in self.model_fields_set and name not in self.later:
                    raise ValueError(f"{name} is missing")
            for name in self.of_n:
                if getattr(self, name) > self.n:
                    raise ValueError(f"{name} is more than n")
        return self


class Mode(Measurement):
    """Modules, n in all, that are in training mode."""

    later = ("n_asked", "differ")
    of_n = ("training", "matter")
    training: Count = 0
    matter: Count = 0
    kinds: list[str] = Field(default_factory=list)
    n_asked: Count = 0
    differ: Count = 0


class Apart(Measurement):
    """How two answers to the same images differ."""

    of_n = ("changed",)
    changed: Count = 0
    largest: float = 0.0


class Passes(Apart):
    """How repeated passes differ."""

    passes: Count = 0


class Batches(Apart):
    """How images alone differ from images in a batch."""

    batch: Count = 0


class Outputs(Measurement):
    """What the outputs look like."""

    later = ("constant",)
    of_n = ("not_finite", "saturated")
    not_finite: Count = 0
    look: Literal["logits", "softmax", "sigmoid"] = "logits"
    saturated: Count = 0
    constant: bool = False


class Accuracy(Measurement):
    """How unperturbed images are answered."""

    later = ("n_answers",)
    of_n = ("correct", "majority")
    n_cohort: Count = 0
    correct: Count = 0
    majority: Count = 0
    n_answers: Count = 0
    declared: Annotated[float, Field(ge=0, le=1)] | None = None


class Graph(Measurement):
    """Why no gradient reaches the images, None if one does; `access` says what an attacker can have at all."""

    later = ("access",)
    access: Literal["gradients", "scores", "decisions"] = "gradients"
    error: str | None = None


class Gradients(Measurement):
    """Gradients that are not finite, or exactly zero."""

    of_n = ("n_right", "not_finite", "zero", "zero_right")
    n_right: Count = 0
    not_finite: Count = 0
    zero: Count = 0
    zero_right: Count = 0
    n_pixels: Count = 0
    zero_pixels: Count = 0


class RepeatedGradients(Measurement):
    """How gradients of repeated passes differ."""

    of_n = ("changed",)
    passes: Count = 0
    changed: Count = 0
    lowest: float = 0.0


class Differences(Measurement):
    """How gradients agree with finite differences."""

    of_n = ("wrong", "off")
    wrong: Count = 0
    off: Count = 0
    n_random: Count = 0
    wrong_random: Count = 0
    off_random: Count = 0
    tolerance: float = 0.0


class Declared(Measurement):
    """Kinds of modules, n in all, that say that the gradient through them is not the derivative of the answers.

    `approximate` ones put another in its place, `averaged` ones take the mean over draws that are not the answers'.
    """

    approximate: list[str] = Field(default_factory=list)
    averaged: list[str] = Field(default_factory=list)


class Still(Measurement):
    """Directions, n in all, of pixels without a gradient along which the margin moves all the same."""

    of_n = ("moved",)
    moved: Count = 0


class Neighbours(Measurement):
    """How images differ from what is all but the same."""

    of_n = ("jumps", "changed")
    jumps: Count = 0
    changed: Count = 0
    by: float = 0.0


class Step(Measurement):
    """How the loss follows its gradient over one grey level."""

    of_n = ("fallen",)
    fallen: Count = 0
    median_ratio: float = 0.0


class Unbounded(Measurement):
    """What an attack without a bound leaves."""

    of_n = ("left",)
    left: Count = 0
    steps: Count = 0


class Examined(Scope):
    """What an examination found of a classifier."""

    seed: int | None = None


class Preflight(Examined):
    """What `preflight.examine` measured before the classifier was attacked, with one loss.

    What a version did not measure is not there, and its check says nothing.
    """

    loss: str
    channels: str = ""
    classifier: str = ""
    evaluation: str = ""
    sampled: bool = False
    n: Count = 0
    training: Mode | None = None
    randomness: Passes | None = None
    batching: Batches | None = None
    outputs: Outputs | None = None
    accuracy: Accuracy | None = None
    graph: Graph | None = None
    identity: Apart | None = None
    gradient: Gradients | None = None
    repeated_gradient: RepeatedGradients | None = None
    differences: Differences | None = None
    declared: Declared | None = None
    still: Still | None = None
    neighbours: Neighbours | None = None
    step: Step | None = None
    unbounded: Unbounded | None = None


class Convergence(Examined):
    """How many images that PGD left break under more of it, as `sweeps.convergence` found."""

    preset: str = ""
    epsilon: float
    n: Count
    n_survivors: Count
    n_examined: Annotated[int, Field(ge=1)] = 1  # older versions examined all
    n_doubled: Count
    n_restarts: Count

    @model_validator(mode="after")
    def _are_parts(self) -> Self:
        examined = self.n_examined if "n_examined" in self.model_fields_set else self.n_survivors
        if not max(self.n_doubled, self.n_restarts) <= examined <= self.n_survivors <= self.n:
            raise ValueError("n_doubled and n_restarts are of n_examined, these of n_survivors, and these of n")
        return self


class Observed(Examined):
    """What a model observer detects at one epsilon through one set of channels, as `sweeps.observing` found."""

    preset: str
    epsilon: float
    channels: str
    n_images: Count
    n_patches: Count
    patch_px: Count
    d_holdout: float
    d_resubstitution: float
    auc: float
    d_image: float
    auc_image: float
