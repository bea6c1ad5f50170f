"""What crosses from one process to another beside rows, typed once: facts of a table, cards, plans, pictures.

Whatever is read back from a run's folder goes through one of these models; what does not fit is one sentence, or is
made again. The analyses read the facts as JSON types, of which they then know that they are there.
"""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from dosimeter.files import json_of
from dosimeter.record.data_audit import DataAudit
from dosimeter.record.kinds import Kinds
from dosimeter.record.measured import Convergence, Observed, Preflight
from dosimeter.record.pictures import Picture
from dosimeter.record.typed import Count, Scalar, Scope, Typed

MAX_HIDDEN = 65_536
"""Units of a saved head's dense layer: far more than any that was trained, far fewer than would fill the memory."""


class Stage(Scope):
    """Seconds of one stage; what it is not about is ""."""

    stage: str
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Trial(Typed):
    """A cohort and its split, as `trials.describe` tells it."""

    cohort: str
    modality: str | None
    protocol: str
    seed: int
    classes: Annotated[list[str], Field(min_length=2)]
    positive: str | None = None  # of two classes it is the second
    findings: list[str] = Field(default_factory=list)
    finding_counts: dict[str, dict[str, dict[str, Count]]] = Field(default_factory=dict)
    n: Count
    counts: dict[str, Count]
    sha256: str
    skipped: Count
    n_train: Count
    n_test: Annotated[int, Field(ge=1)]
    n_test_sharing_patient: Count | None
    n_test_in_training: Count | None = 0
    n_two_labels: Count = 0
    n_flat: Count = 0
    subgroups: dict[str, dict[str, list[str]]] = Field(default_factory=dict)  # fact -> value -> ids of test cases
    provenance: dict[str, Any]


class BaseWeights(Typed):
    """The weights of a classifier's base."""

    name: str
    source: str
    sha256: str
    licence: str
    stand_in: bool
    note: str
    layers: str = "torchvision"  # not said by versions that knew no other


class Epoch(Typed):
    """One epoch of a head's training; a training that diverges has losses that are not finite."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


class ClassifierCard(Scope):
    """What is known of a classifier's making."""

    classifier: str
    seed: int
    weights: BaseWeights
    preprocessing: str
    head: dict[str, Scalar]
    fit: dict[str, Scalar]
    history: list[Epoch]  # none of a network that was trained elsewhere
    sha256: str


class Head(Typed):
    """The shape of a saved head."""

    pool: Literal["whole", "none"] | Annotated[int, Field(ge=1)]
    hidden: Annotated[int, Field(ge=1, le=MAX_HIDDEN)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class SavedCard(Typed):
    """card.json beside a saved head: what loading needs, and what is known beyond it."""

    card_version: Annotated[int, Field(ge=1)]
    model: str
    weights: BaseWeights
    preprocessing: str
    head: Head
    classes: Annotated[list[str], Field(min_length=1)]
    thresholds: list[float] = Field(default_factory=list)  # of findings, whose names `classes` then are
    sha256: str


class Plan(Typed):
    """How a sweep was computed, as `engines.choose.EnginePlan` writes it."""

    name: str
    batch_size: Annotated[int, Field(ge=1)]
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    error: float = 0.0
    image_s: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class SweptPlan(Plan, Scope):
    """A plan and what it was for; `n_recomputed` units of work were made again with torch."""

    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    error: float
    seed: int
    n_recomputed: Count = 0


class Exemplar(Scope):
    """A case that the figures show: its image, and the direction of an attack."""

    preset: str
    case_id: str
    seed: int = 0  # a missing one is the first
    original_png: Picture
    direction_png: Picture


class Bound(Typed):
    """A threshold of a reader study, or one end of its interval."""

    epsilon: float | None
    beyond: Literal["", "below", "above"]
    words: str


class Level(Typed):
    """What readers said at one epsilon."""

    epsilon: float
    changed: float
    n: Count
    right: Count
    share: float | None
    low: float | None
    high: float | None
    d_prime: float | None
    d_prime_low: float | None
    d_prime_high: float | None


class Psychometric(Typed):
    """A fitted curve of a reader, or of all."""

    kind: Literal["adversarial", "random"]
    reader: int | None
    n: Count
    n_images: Count
    threshold: Bound
    low: Bound
    high: Bound
    centre: float
    width: float
    lapse: float
    levels: list[Level]


class Catch(Typed):
    """Catch trials of a reader, or of all."""

    reader: int | None
    n: Count
    n_left: Count
    share_left: float
    low: float | None
    high: float | None


class Displays(Typed):
    """What readers said of their displays."""

    n_checked: Count
    n_both: Count


class ReaderStudy(Scope):
    """A reader study that was joined to a run, as `readers.results` tells it."""

    study: str
    simulated: bool
    phantom: bool
    preset: str
    seed: int
    epsilons: list[float]
    n_readers: Count
    n_answers: Count
    curves: list[Psychometric]
    catch: list[Catch]
    displays: Displays

    @model_validator(mode="after")
    def _is_of_its_epsilons(self) -> Self:
        for curve in self.curves:
            if [level.epsilon for level in curve.levels] != self.epsilons:
                raise ValueError("the levels of a curve are not those of epsilons")
        return self


class AttackCard(Typed):
    """The settings of a preset's attack."""

    preset: str


class Shown(Typed):
    """Of the settings, those that the report looks at."""

    model: list[str] = Field(default_factory=list)
    native: bool = False
    bits: int | None = None
    target: str | None = None


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


class Partial(Typed):
    """How far an interrupted run had come, for each classifier: images done of those planned, of each preset."""

    model: str
    cohort: str
    protocol: str
    seed: int = 0
    done: dict[str, Count]
    n_test: Count


class Facts(Typed):
    """What travels with a response table; the first tables lacked what has a default."""

    schema_version: Annotated[int, Field(ge=1)]
    run_id: str
    dosimeter_version: str
    command: str
    created: Annotated[str, AfterValidator(_moment)]
    phantom: bool
    environment: dict[str, Scalar]
    cohorts: list[Trial]
    classifiers: list[ClassifierCard]
    incomplete: list[str]
    peak_memory_mib: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    config: Shown = Shown()
    engines: list[SweptPlan] = Field(default_factory=list)
    attacks: list[AttackCard] = Field(default_factory=list)
    preflights: list[Preflight] = Field(default_factory=list)
    convergence: list[Convergence] = Field(default_factory=list)
    observer: list[Observed] = Field(default_factory=list)
    examined: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)  # by examinations of other packages
    data_audits: list[DataAudit] = Field(default_factory=list)
    partial: list[Partial] = Field(default_factory=list)
    stages: list[Stage] = Field(default_factory=list)
    exemplars: list[Exemplar] = Field(default_factory=list)
    readers: list[ReaderStudy] = Field(default_factory=list)
    n_rows: Count | None = None
    kinds: Kinds = Kinds()


class Planned(Scope):
    """The units of work that one preset of a classifier is made of."""

    seed: int
    preset: str
    cells: list[str]


class Interim(Typed):
    """What an interrupted study leaves to be reported: facts as far as they were known, and what was planned."""

    facts: dict[str, Any]
    planned: list[Planned]


def check_facts(found: Any) -> dict[str, Any]:
    """Return the facts of a table as JSON types.

    Raises:
        ValidationError: they are not what `Facts` says.
    """
    return Facts.model_validate(found).model_dump(exclude_unset=True)


def reasons(error: ValidationError, limit: int = 3) -> str:
    """Return what does not fit as part of a sentence: where, and why, the first few."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    said = [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg'].lower()}" for each in found[:limit]]
    more = f", and {len(found) - limit} more" if len(found) > limit else ""
    return " ".join(f"{'; '.join(said)}{more}".split())[:400]


DIGEST = "sha256"


def sealed(value: Any) -> str:
    """Return JSON of `value` with its digest, for `unsealed`."""
    return json.dumps({DIGEST: digest(value), "value": value})


def unsealed(text: str | bytes) -> Any:
    """Return what `sealed` was given.

    Raises:
        ValueError: the text is not what `sealed` returned: cut, edited, or another's.
    """
    found = json_of(text)
    if not isinstance(found, dict) or set(found) != {DIGEST, "value"} or found[DIGEST] != digest(found["value"]):
        raise ValueError("its digest is not that of its content")
    return found["value"]


def digest(value: Any) -> str:
    """Return SHA-256 of a value of JSON types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
