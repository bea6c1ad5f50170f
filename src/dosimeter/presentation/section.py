"""The contract of a report's section, and what it is given: tables, figures, page and summary come from one object.

What a section does not have it leaves as it is here. So a section is one folder, and nothing of it can stand in the
page and be missing in the tables or in the summary.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, ClassVar, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from dosimeter.analysis.base import answered, attackable, is_fgsm
from dosimeter.analysis.names import STUDY_PRESETS, attack_title, model_name
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import first_repeat, seeds
from dosimeter.analysis.wording import MARKS
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.presentation import numbers
from dosimeter.presentation.paper import PaperTable
from dosimeter.presentation.patients import Unit, unit_of
from dosimeter.presentation.views import View
from dosimeter.record.table import VISIBILITY, Responses

Tables = Mapping[str, pd.DataFrame]
Keys = Mapping[str, Any]


class Rows:
    """What tables are made of: a run's answers, in the forms that several sections need, each made once.

    Attributes:
        frame: the rows of attacks in their compact form: each has an epsilon.
        meta: the run's facts.
        physical: the rows of physical changes, each with a severity; none unless there are any.
        made: the tables of the sections that stand before.
    """

    def __init__(self, frame: pd.DataFrame, meta: Mapping[str, Any], physical: pd.DataFrame | None = None) -> None:
        self.frame, self.meta = frame, meta
        self.physical = frame.iloc[:0] if physical is None else physical
        self.made: dict[str, pd.DataFrame] = {}

    @cached_property
    def fgsm(self) -> pd.DataFrame:
        """The rows of the classifier's own FGSM images."""
        own = is_fgsm(self.frame)
        return self.frame if own.all() else self.frame[own]

    @cached_property
    def attackable(self) -> pd.DataFrame:
        """The rows without images that have the class they should be given already."""
        return attackable(self.frame)

    @cached_property
    def several(self) -> bool:
        """Whether the run has attacks beyond those of the study."""
        return not set(self.frame["preset"].unique()).issubset(STUDY_PRESETS)

    @cached_property
    def every(self) -> pd.DataFrame:
        """`attackable`, and where the run has several attacks the rows of their worst case."""
        if not self.several:
            return self.attackable
        return with_worst_case(answered(self.attackable.drop(columns=[*VISIBILITY], errors="ignore")))


def rows_of(responses: Responses) -> Rows:
    """Return what tables are made of."""
    return Rows(responses.frame, responses.meta, responses.physical)


@dataclass(frozen=True)
class Reading:
    """A run as page and summary see it.

    Attributes:
        responses: its table and facts, of all seeds.
        tables: of all sections and seeds.
        numbers: of the sections that are there, by their names.
    """

    responses: Responses
    tables: Tables
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def meta(self) -> Mapping[str, Any]:
        """The facts of all seeds."""
        return self.responses.meta

    @cached_property
    def _first(self) -> tuple[Responses, Tables]:
        return first_repeat(self.responses, self.tables)

    @property
    def first(self) -> Responses:
        """The table and facts of the first seed."""
        return self._first[0]

    @property
    def firsts(self) -> Tables:
        """The tables of the first seed."""
        return self._first[1]

    @cached_property
    def seeds(self) -> list[int]:
        """The run's, the first one first."""
        return seeds(self.responses)

    @cached_property
    def trials(self) -> list[tuple[str, str]]:
        """The run's (cohort, protocol), in its order."""
        return [(card["cohort"], card["protocol"]) for card in self.first.meta["cohorts"]]

    @cached_property
    def subject(self) -> bool:
        """Whether any of the run's cohorts and networks is the paper's."""
        asked = self.responses.frame[["cohort", "model"]].drop_duplicates().to_numpy()
        return any(is_subject(*each) for each in asked)

    @cached_property
    def unit(self) -> Unit | None:
        """Whose images intervals take together (`unit_of`)."""
        return unit_of(self.responses.frame, self.meta)

    @cached_property
    def patients_repeat(self) -> bool:
        """Whether any patient is known to have several test images."""
        return several_images(self.first.frame)


def several_images(frame: pd.DataFrame) -> bool:
    """Whether any patient is known to have several test images."""
    asked = frame.loc[(frame["epsilon"] == 0) & frame["patient_id"].notna(), ["cohort", "patient_id", "case_id"]]
    return bool(asked.drop_duplicates().duplicated(["cohort", "patient_id"]).any())


class Page(NamedTuple):
    """What a section says on the page, in this order; its figures stand before its tables.

    Attributes:
        body: what it lays out itself, see `fill`.
        text: paragraphs.
        sentences: items of a list, each computed from the run.
        tables: views of its tables.
    """

    body: Markup = Markup("")
    text: Sequence[str | Markup] = ()
    sentences: Sequence[str] = ()
    tables: Sequence[View] = ()


@dataclass(frozen=True)
class Panel:
    """What the figures of one cohort and protocol are drawn from, of the first seed.

    Attributes:
        cohort: whose images.
        protocol: how they were split.
        modality: of the images.
        classes: names.
        tables: of this cohort and protocol.
        every: the same of all seeds.
        answers: rows of FGSM.
        clean: one answer for each image, without attack.
        doses: what choosing an exemplar found, see `analysis.exemplars.choose_exemplar`.
        exemplars: images that the run keeps.
        readers: studies with readers.
    """

    cohort: str
    protocol: str
    modality: str
    classes: tuple[str, ...]
    tables: Tables
    every: Tables
    answers: pd.DataFrame
    clean: pd.DataFrame
    doses: pd.DataFrame
    exemplars: list[Mapping[str, Any]]
    readers: list[Mapping[str, Any]]


UNCHANGED_FIGURE = 14
"""The number of the figure that the paper lacks, after its last."""


class Drawing(NamedTuple):
    """A figure to draw.

    Attributes:
        subject: names the file.
        title: what it shows.
        draw: makes it.
        caption: sentences on how to read it; empty ones are left out.
        model: the one model shown, or what else tells it from others of its subject; "" if nothing must.
        place: in the paper, after the modality's first figure; `UNCHANGED_FIGURE` for the one that the paper lacks;
            None for a figure without a number.
        attacked: whether it shows numbers under attack, so that their verdicts are explained.
        of_seed: whether it is of the first seed alone.
    """

    subject: str
    title: str
    draw: Callable[[], Figure]
    caption: Sequence[str]
    model: str = ""
    place: int | None = None
    attacked: bool = True
    of_seed: bool = True


class Section:
    """A section of the report; a subclass overrides what it has.

    Attributes:
        title: its heading.
        note: what it shows, for `dosimeter list sections`.
        rank: its place on the page, among those of the others; equal ones stand by name.
        captions: of its tables' files, by their names.
        unattacked: the names of its tables that have no number under attack; the others get the verdict on the
            evaluation that each row belongs to, as the column `evaluation`.
        published: by a table's name, its column of the paper's numbers and where the paper has them.
        paper: by a table's name what a paper shows of it; of others there is the CSV file alone.
        measures: whether its tables need the columns `record.table.VISIBILITY`, which others are not given.
        folded: whether it stands folded on the page, for those who look for it.
        css: what it adds to the page's style sheet.
    """

    title: str = ""
    note: str = ""
    rank: int = 1000
    captions: ClassVar[Mapping[str, str]] = {}
    unattacked: ClassVar[Collection[str]] = ()
    published: ClassVar[Mapping[str, tuple[str, str]]] = {}
    paper: ClassVar[Mapping[str, PaperTable]] = {}
    measures: bool = False
    folded: bool = False
    css: str = ""

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return its tables, by the names of their files, each a key of `captions`.

        Each has columns cohort and protocol, by which figures and pages find their part of it.
        """
        return {}

    def is_there(self, run: Reading) -> bool:
        """Whether the run has what the section is about."""
        return True

    def heading(self, run: Reading) -> str:
        """Return its title in this run."""
        return self.title

    def page(self, run: Reading) -> Page:
        """Return what it says; asked only where it is there."""
        return Page()

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield the figures of one cohort and protocol."""
        yield from ()

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return its entries of summary.json, JSON types alone."""
        return {}

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return its entries of the result of one classifier, of the first seed."""
        return {}

    def of_attack(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return its entries of one attack of a classifier, as `keys` name them with `preset` and `storage`."""
        return {}


def fill(package: str, template: str = "page.html", **values: Any) -> Markup:
    """Return a template of a section's package (its `__name__`), filled in; "macros.html" is there to import."""
    return Markup(_environment(package).get_template(template).render(**values))


@cache
def _environment(package: str) -> jinja2.Environment:
    """Return what compiles the templates of a package, each once."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: read_file(__package__ if name == "macros.html" else package, name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("percent", "seconds", "moment")}
    environment.filters |= {"model": model_name, "attack": attack_title}
    environment.globals["marks"] = MARKS
    return environment


def read_file(package: str, name: str) -> str:
    """Return a text file of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")
