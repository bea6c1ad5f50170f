"""What the section says: which change breaks a classifier first, and attacks that may be seen as well."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.names import PUBLISHED, attack_title, change_kind, change_title, family, model_name
from dosimeter.analysis.wording import joined, mark, records
from dosimeter.presentation.numbers import at_severity, dose, percent

Tables = Mapping[str, pd.DataFrame]

HALF = 0.5

DOSES = ("dose_fraction", "mas_fraction", "mas_fraction_quick")
"""Changes whose severity is a share of a dose."""

MOST_NAMED = 4
"""Changes that a sentence names."""


def assumptions(meta: Mapping[str, Any]) -> list[str]:
    """Return which constants of the apparatus were assumed, and which were declared; empty where none is needed."""
    told = [kind for each in (meta.get("kinds") or {}).get("changes", []) if (kind := change_kind(each["name"]))]
    values = {name: value for kind in told for name, value in kind.constants.items()}
    assumed = [name for name in values if any(name in kind.assumed for kind in told)]
    known = [name for name in values if name not in assumed]
    said = []
    for names, how in (
        (assumed, "Assumed of the apparatus, as nobody declared it"),
        (known, "Declared of the apparatus"),
    ):
        listed = ", ".join(f"{name.replace('_', ' ')} {values[name]:g}" for name in names if values[name] is not None)
        if listed:
            said.append(f"{how}: {listed}.")
    return said


def sentences(tables: Tables) -> list[str]:
    """Return, for each classifier, which change breaks it first, and what an attack costs that may be seen as well."""
    ranking = tables["physical_ranking"]
    floats = ranking[ranking["storage"] == "float"]
    keys = [name for name in ("cohort", "protocol", "model", "defence", "decision") if name in floats]
    said = []
    for names, mine in floats.groupby(keys, sort=False, observed=True):
        chosen = dict(zip(keys, names, strict=True))
        who = f"{model_name(chosen['model'])} on {chosen['cohort']}, {chosen['protocol']} protocol"
        said.append(f"{who}: {_first(mine.sort_values('place'))}")
        equal = _of(tables["equal_visibility"], chosen)
        said += [f"{who}: {each}" for each in _beside(equal)]
        said += [f"{who}: {each}" for each in _against(equal, _of(tables.get("epsilon50", pd.DataFrame()), chosen))]
    return said


def _of(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[table[name] == value] if name in table else table
    return table


def _first(ranking: pd.DataFrame) -> str:
    """Return which of the changes breaks it first, and which never do."""
    broken, kept = ranking[~ranking["censored"]], ranking[ranking["censored"]]
    titles = joined([change_title(str(each)) for each in kept["change"]])
    titles = titles if len(kept) <= MOST_NAMED else f"the other {len(kept)} changes"
    spared = f" At no severity asked is half lost under {titles}." if len(kept) and len(broken) else ""
    if broken.empty:
        row = records(ranking)[0]
        return (
            f"no change loses half of its {row['n']} right answers at any severity asked; {_named(row)} at "
            f"{at_severity(row['severity_max'], row['unit'])} loses most, {percent(row['lost_max'])}."
        )
    row = records(broken)[0]
    return (
        f"{_named(row)} breaks it first, half of its {row['n']} right answers being lost at "
        f"{at_severity(row['severity50'], row['unit'])}, where images are moved by {row['jnd50']:.1f} JND.{spared}"
    )


def _beside(equal: pd.DataFrame) -> Iterator[str]:
    """Yield what the farthest change that it bears costs, for the change that it bears with most to be seen."""
    borne = equal[equal["lost"] < HALF]
    if borne.empty:
        return
    row = records(borne.sort_values("jnd", kind="stable"))[-1]
    what = f"{attack_title(str(row['preset']))} at epsilon {dose(row['epsilon'])}"
    as_well = f"an attack that moves them no farther, {what}," if row["beyond"] else f"an attack seen as well, {what},"
    yield (
        f"it bears {_named(row)} at {at_severity(row['severity'], row['unit'])}: {percent(row['lost'])} of {row['n']} "
        f"right answers are lost although images are moved by {row['jnd']:.1f} JND, and {as_well} loses "
        f"{percent(row['lost_attack'])}{mark(row)}."
    )


def _against(equal: pd.DataFrame, half: pd.DataFrame) -> Iterator[str]:
    """Yield the least dose that it bears, beside the least of the grey scale, chosen against it, that it does not.

    Args:
        equal: what changes cost.
        half: where attacks flip half, as `flips.epsilon50` returns it.
    """
    doses = equal[equal["change"].isin(DOSES) & (equal["lost"] < HALF)]
    if doses.empty or half.empty:
        return
    presets = half["preset"].astype(str)
    own = presets.map(lambda each: family(each) != "control" and each != PUBLISHED and " from " not in each).astype(
        bool
    )
    broken = half[own & (half["storage"] == "float") & half["epsilon50"].notna()]
    if broken.empty:
        return
    borne = records(doses.sort_values("severity", kind="stable"))[0]
    least = records(broken.sort_values("epsilon50", kind="stable"))[0]
    yield (
        f"it bears {at_severity(borne['severity'], borne['unit'])}, {percent(borne['lost'])} of {borne['n']} right "
        f"answers being lost, but not {dose(least['epsilon50'])} of the grey scale chosen against it: there half are "
        f"lost under {attack_title(str(least['preset']))}{mark(least)}."
    )


def _named(row: Mapping[str, Any]) -> str:
    return change_title(str(row["change"]))
