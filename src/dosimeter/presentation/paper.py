"""Tables as a paper prints them: few columns, human heads, the interval behind its value, the rest in the caption.

A section says of each of its tables what a paper shows of it (`PaperTable`); `sheets` makes it of the table's rows.
`typeset` writes a sheet as LaTeX, Markdown or CSV.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis.names import attack_title, change_title, model_name, place, storage_name
from dosimeter.analysis.wording import is_marked, records
from dosimeter.presentation.numbers import DASH, count, dose, is_missing

MARKS = {"CAUTION": "*", "UNRELIABLE": "†"}
"""Signs behind numbers of evaluations that did not pass; the caption says what they mean."""


class Entry(NamedTuple):
    """A cell: its value, the interval behind it, and the sign of the verdict on its evaluation."""

    value: str
    interval: str = ""
    sign: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.value}{f' ({self.interval})' if self.interval else ''}{self.sign}"


class Field(NamedTuple):
    """A column of a table as a paper shows it.

    Attributes:
        head: its head, of one or two lines.
        name: the column of the table.
        kind: a key of `KINDS`: how a value is written.
        interval: prefix and suffix of the columns of its bounds, "" where it has none.
        low: of bounds that are called otherwise.
        high: likewise.
        attacked: whether it is of images under attack, so that it carries the sign of their evaluation.
    """

    head: str
    name: str
    kind: str
    interval: str = ""
    low: str = ""
    high: str = ""
    attacked: bool = True


class PaperTable(NamedTuple):
    """What a paper shows of a table.

    Attributes:
        keys: fields that name a row; one that is the same everywhere goes into the caption.
        numbers: its fields; of a table with `across`, one.
        across: fields whose values stand side by side as columns; empty where every row is a row.
        interval: what the intervals are, for the caption; "" without.
        rows: chooses and prepares the rows; by default all.
        note: what else the caption says.
    """

    keys: tuple[Field, ...]
    numbers: tuple[Field, ...]
    across: tuple[Field, ...] = ()
    interval: str = ""
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table
    note: str = ""


class Sheet(NamedTuple):
    """A table for a paper.

    Attributes:
        name: of its file.
        caption: sentences.
        heads: of each column its lines, from the top; neighbours that share a line share it over both.
        words: of each column whether it is of words, which stand left and may be wrapped.
        rows: of entries.
        keys: how many of the first columns name a row.
    """

    name: str
    caption: str
    heads: list[tuple[str, ...]]
    words: list[bool]
    rows: list[list[Entry]]
    keys: int


_APART = (Field("Seed", "seed", "count"), Field("Finding", "decision", "words"))  # a defence is in its model's name


def sheets(name: str, spec: PaperTable, table: pd.DataFrame, caption: str) -> Iterator[Sheet]:
    """Yield a table as a paper shows it; nothing where it has no row.

    Args:
        name: of the table.
        spec: what a paper shows of it.
        table: with its verdicts, as `report.build.build_tables` makes it.
        caption: of the table.
    """
    table = spec.rows(table)
    if table.empty:
        return
    keys = [*spec.keys, *(field for field in _APART if field.name in table)]
    if not spec.across:
        yield _listed(name, spec, keys, table, caption)
        return
    trial = [field.name for field in keys if field.name in ("cohort", "protocol", "seed", "decision")]
    groups = table.groupby(trial, sort=False, observed=True, dropna=False) if trial else [((), table)]
    found = [(key, group) for key, group in groups if len(group)]
    for key, group in found:
        part = "-".join([name, *map(str, key)]) if len(found) > 1 else name
        yield _crossed(part, spec, keys, group, caption)


def _listed(name: str, spec: PaperTable, keys: Sequence[Field], table: pd.DataFrame, caption: str) -> Sheet:
    """Return a sheet with a row for each row."""
    kept, constant = _varying(keys, table)
    measured, more = _varying([field for field in spec.numbers if _is_there(field, table)], table, only=("n",))
    fields = [*kept, *measured]
    rows = [[entry(field, row) for field in fields] for row in records(table)]
    marks = {str(each) for each in table["evaluation"].unique()} if "evaluation" in table else set()
    said = _caption(caption, spec, constant | more, marks, any(cell.interval for row in rows for cell in row))
    words = [KINDS[field.kind].words for field in fields]
    depth = max(len(field.head.split("\n")) for field in fields)
    return Sheet(name, said, [_lines(field.head, depth) for field in fields], words, rows, len(kept))


def _crossed(name: str, spec: PaperTable, keys: Sequence[Field], table: pd.DataFrame, caption: str) -> Sheet:
    """Return a sheet with the values of `spec.across` side by side."""
    (value,) = spec.numbers
    across, constant = _varying(spec.across, table)
    across = across or list(spec.across[:1])
    kept, more = _varying([field for field in keys if field not in spec.across], table)
    kept = kept or [field for field in keys if field.name == "model"] or list(keys[:1])
    constant |= {head: said for head, said in more.items() if head not in {field.head for field in kept}}
    if "n" in table and len(table["n"].unique()) == 1:
        constant["n"] = count(table["n"].iloc[0])
    columns = _ordered(table, across)
    by_row: dict[tuple[Any, ...], dict[tuple[Any, ...], Mapping[str, Any]]] = {}
    for row in records(table):
        line = by_row.setdefault(tuple(row[field.name] for field in kept), {})
        line.setdefault(tuple(row[field.name] for field in across), row)
    blank = Entry(DASH)
    rows = []
    for line in by_row.values():
        first = next(iter(line.values()))
        cells = [entry(value, line[each]) if each in line else blank for each in columns]
        rows.append([*(entry(field, first)._replace(sign="") for field in kept), *cells])
    named = dict(zip(columns, (_heads(across, each) for each in columns), strict=True))
    depth = len(across) + 1
    heads = [*(_lines(field.head, depth) for field in kept), *((value.head, *named[each]) for each in columns)]
    marks = {str(each) for each in table["evaluation"].unique()} if "evaluation" in table else set()
    said = _caption(caption, spec, constant, marks, any(cell.interval for row in rows for cell in row))
    words = [*(KINDS[field.kind].words for field in kept), *[False] * len(columns)]
    return Sheet(name, said, heads, words, rows, len(kept))


def _lines(head: str, depth: int) -> tuple[str, ...]:
    """Return the lines of a head, blank ones above them."""
    lines = head.split("\n")
    return (*[""] * (depth - len(lines)), *lines)


def _heads(across: Sequence[Field], named: tuple[Any, ...]) -> tuple[str, ...]:
    heads = []
    for field, value in zip(across, named, strict=True):
        text = KINDS[field.kind].write(value)
        heads.append(f"{field.head.lower()} {text}" if field.kind == "epsilon" else text)
    return tuple(heads)


def _ordered(table: pd.DataFrame, across: Sequence[Field]) -> list[tuple[Any, ...]]:
    """Return the distinct values of the columns `across`, as they come; epsilons rise, attacks stand in their order."""
    found = dict.fromkeys(table[[field.name for field in across]].itertuples(index=False, name=None))
    first = {field.name: list(dict.fromkeys(table[field.name])) for field in across}

    def rank(named: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value
            if field.kind == "epsilon"
            else place(str(value))
            if field.kind == "attack"
            else first[field.name].index(value)
            for field, value in zip(across, named, strict=True)
        )

    return sorted(found, key=rank)


def _varying(
    fields: Sequence[Field], table: pd.DataFrame, only: Sequence[str] = ()
) -> tuple[list[Field], dict[str, str]]:
    """Return the fields whose values differ, and what the others are, by their heads; of `only` these, if given."""
    kept, constant = [], {}
    for field in fields:
        if field.name not in table:
            continue
        if (only and field.name not in only) or len(table[field.name].unique()) > 1:
            kept.append(field)
        else:
            constant[field.head.replace("\n", " ")] = KINDS[field.kind].write(table[field.name].iloc[0])
    return kept, {head: text for head, text in constant.items() if text not in ("", DASH)}


def _is_there(field: Field, table: pd.DataFrame) -> bool:
    if field.name not in table:
        return False
    censored = bool(field.interval) and "censored" in table and bool(table["censored"].any())
    return censored or bool(table[field.name].notna().any())


_SAID = {
    "Cohort": "{}",
    "Protocol": "{} protocol",
    "Seed": "seed {}",
    "Finding": "finding {}",
    "Fact": "by {}",
    "Value": "images of {}",
    "Against": "against {}",
    "Under": "under {}",
    "Epsilon": "epsilon {}",
    "Stored as": "images as {}",
    "n": "n = {} images",
}


def _caption(caption: str, spec: PaperTable, constant: Mapping[str, str], marks: set[str], known: bool) -> str:
    parts = [_SAID.get(head, "{}").format(text) for head, text in constant.items()]
    said = [caption.rstrip("."), f"Here: {', '.join(parts)}" if parts else ""]
    if spec.interval:
        said.append(f"In brackets: {spec.interval}" if known else "Too few images for intervals")
    said.append(spec.note.rstrip("."))
    signs = [f"{sign} {verdict}" for verdict, sign in MARKS.items() if verdict in marks]
    if signs:
        said.append(f"{', '.join(signs)}: the verdict on the evaluation that a number belongs to")
    return " ".join(f"{part}." for part in said if part)


# --- how values are written ---------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How values of a kind are written, their bounds, and whether they are words."""

    write: Callable[[Any], str]
    bound: Callable[[Any], str]
    words: bool = False


def _fixed(scale: float, decimals: int) -> Callable[[Any], str]:
    return lambda value: DASH if is_missing(value) else f"{scale * float(value):.{decimals}f}"


def _thousandths(value: Any) -> str:
    return DASH if is_missing(value) else dose(1000 * float(value))


def _signed(value: Any) -> str:
    return DASH if is_missing(value) else f"{100 * float(value):+.1f}"


def _p(value: Any) -> str:
    return DASH if is_missing(value) else "<0.001" if value < 0.001 else f"{float(value):.3f}"


def _words(value: Any) -> str:
    return DASH if is_missing(value) or value == "" else str(value)


KINDS = {
    "words": Kind(_words, _words, words=True),
    "model": Kind(lambda value: model_name(value), _words, words=True),
    "attack": Kind(lambda value: attack_title(str(value)), _words, words=True),
    "change": Kind(lambda value: change_title(str(value)), _words, words=True),
    "storage": Kind(lambda value: storage_name(str(value)), _words, words=True),
    "epsilon": Kind(dose, dose),
    "severity": Kind(dose, dose),
    "count": Kind(count, count),
    "percent": Kind(_fixed(100, 1), _fixed(100, 0)),
    "points": Kind(_signed, _signed),
    "thousandths": Kind(_thousandths, _thousandths),
    "significant": Kind(dose, dose),
    "decimal": Kind(_fixed(1, 2), _fixed(1, 2)),
    "tenths": Kind(_fixed(1, 1), _fixed(1, 1)),
    "precise": Kind(_fixed(1, 3), _fixed(1, 3)),
    "p": Kind(_p, _p),
}
"""By the `kind` of a field."""

_MEDIANS = ("thousandths", "significant", "severity")
"""Kinds of fields whose value, or bound, may lie beyond what was asked."""


def entry(field: Field, row: Mapping[str, Any]) -> Entry:
    """Return the cell of a row; a median beyond what was asked is above the largest epsilon, or beyond the severity."""
    kind = KINDS[field.kind]
    value = kind.write(row.get(field.name))
    low, high = field.low or f"{field.interval}_low", field.high or f"{field.interval}_high"
    interval = ""
    censored = row.get("censored") is not None and field.interval and field.kind in _MEDIANS
    beyond = _beyond(field, row) if censored else ""
    if censored and row.get("censored"):
        value = beyond
    if field.interval or field.low:
        bounds = [row.get(low), row.get(high)]
        if censored and row.get("high_censored") and not is_missing(bounds[0]):
            interval = f"{kind.bound(bounds[0])} to {beyond}"
        elif not any(map(is_missing, bounds)):
            between = " to " if field.kind in ("points", "severity") else "–"
            interval = between.join(map(kind.bound, bounds))
    attacked = field.attacked and not kind.words and field.kind not in ("count", "epsilon") and row.get("epsilon") != 0
    sign = MARKS.get(str(row.get("evaluation")), "") if attacked and is_marked(row.get("evaluation")) else ""
    return Entry(value, interval, sign if value != DASH else "")


def _beyond(field: Field, row: Mapping[str, Any]) -> str:
    """Return what is said of a median beyond the largest epsilon, or the farthest severity, that was asked."""
    write = KINDS[field.kind].write
    if field.kind == "severity":
        return f"beyond {write(row['severity_max'])}"
    return f">{write(float(row['epsilon_max']) * (255 if field.name == 'grey_levels' else 1))}"
