"""What an audit of a cohort found, typed: checks with rule and source, near duplicates, probes, subgroups.

Cases are named by their ids. No file's name, no patient's id and no other identifier is among these facts.
"""

import html
from typing import Annotated, Any, Literal

from pydantic import Field

from dosimeter.record.pictures import Picture
from dosimeter.record.typed import Count, Typed

Level = Literal["pass", "info", "warn", "fail"]
"""pass: nothing speaks against the data; info: nothing to judge; warn: read numbers with care; fail: mend the data."""

LEVELS: tuple[Level, ...] = ("fail", "warn", "info", "pass")
"""The worst first."""

Share = Annotated[float, Field(ge=0, le=1)]


class DataCheck(Typed):
    """One check of a cohort.

    Attributes:
        id: unique in the audit.
        title: what is asked.
        level: the verdict.
        measured: one sentence with the numbers.
        rule: when it is which level.
        source: where the rule comes from.
        remedy: what to do, "" if nothing.
        numbers: what the sentence is based on.
        cases: ids of the cases that it is about.
    """

    id: str
    title: str
    level: Level
    measured: str
    rule: str
    source: str
    remedy: str = ""
    numbers: dict[str, Any] = Field(default_factory=dict)
    cases: list[str] = Field(default_factory=list)


class NearPair(Typed):
    """Two images that are near duplicates.

    Attributes:
        cases: their ids.
        whole: correlation of the whole images.
        detail: correlation of their aligned details.
        labels: what they are labelled.
        contradict: whether what both labels state differs; a finding that one leaves open does not count.
        one_patient: whether they have one patient's id, None if an id is missing.
        sides: of the split, "train", "test", "val" of the official one, or "".
        together: whether splits keep them together, as `--group duplicates` does.
        pictures: both, where they are shown.
    """

    cases: Annotated[list[str], Field(min_length=2, max_length=2)]
    whole: float
    detail: float
    labels: list[str]
    contradict: bool = False
    one_patient: bool | None
    sides: list[str]
    together: bool = False
    pictures: list[Picture] = Field(default_factory=list)


class Probe(Typed):
    """How well something that should not tell the label tells it.

    Attributes:
        name: what is looked at.
        target: the class, or the finding, told from the rest.
        n: images.
        n_groups: patients, or groups; an image of a patient that is not known counts as one.
        patients_known: whether it is known of each image whose it is.
        auc: cross-validated, no group in training and test.
        low: of its interval.
        high: of its interval.
        permuted: the mean AUC of the same with labels permuted among groups; None if it was not asked.
    """

    name: str
    target: str
    n: Count
    n_groups: Count
    patients_known: bool = True
    auc: Share
    low: float
    high: float
    permuted: Share | None = None


class Subgroup(Typed):
    """The images of one value of a fact, by class."""

    fact: str
    value: str
    counts: dict[str, Count]


class DataAudit(Typed):
    """What an audit of a cohort found, split by a protocol or not."""

    cohort: str
    protocol: str = ""
    seed: int = 0
    n: Count
    checks: list[DataCheck]
    pairs: list[NearPair] = Field(default_factory=list)
    probes: list[Probe] = Field(default_factory=list)
    subgroups: list[Subgroup] = Field(default_factory=list)

    @property
    def level(self) -> Level:
        """The worst of its checks."""
        found = {check.level for check in self.checks}
        return next((level for level in LEVELS if level in found), "pass")

    def __str__(self) -> str:
        """Return the verdict, and of each check that warns or fails what was measured and what to do."""
        lines = [f"{self.level.upper()}: {self.n} images of {self.cohort}"]
        for check in self.checks:
            if check.level in ("fail", "warn"):
                lines.append(f"{check.level.upper()}  {check.title} {check.measured} {check.remedy}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{check.level.upper()}</td><td>{html.escape(check.title)}</td><td>{html.escape(check.measured)}</td>"
            f"<td>{html.escape(check.remedy)}</td></tr>"
            for check in self.checks
        )
        return f"<table><caption>{html.escape(str(self).splitlines()[0])}</caption>{rows}</table>"
