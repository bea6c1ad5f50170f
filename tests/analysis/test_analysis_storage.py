"""Survival and the deployed epsilon of tables that can be counted by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from response_factory import response_row

from dosimeter.analysis.names import storage_kind
from dosimeter.analysis.storage import deployed_epsilon, deployed_median, is_stored, survival
from dosimeter.record.kinds import StorageKind
from dosimeter.record.table import to_frame
from dosimeter.report.build import build_tables
from dosimeter.sections.storage.figures import LOOKS, survival_curves
from dosimeter.sections.storage.page import storage_sentences, storage_tables
from dosimeter.storage.base import kind, storages

DOSES = (0.0, 0.001, 0.003)
FLIPS = {  # case: (first epsilon at which floats flip, at which the file flips)
    "a": (0.001, 0.003),
    "b": (0.001, 1),
    "c": (0.003, 0.003),
    "d": (1, 1),
    "e": (0.0, 0.0),  # wrong from the start
}


def rows(preset: str = "sound", attack: str = "fgsm", storage: str = "png8", linf: float = 1 / 255) -> list[dict]:  # type: ignore[type-arg]
    return [
        response_row(
            case_id=case,
            preset=preset,
            attack=attack,
            storage=stored,
            epsilon=dose,
            linf=linf if dose == 0.003 else 0.0,
            probability=0.1 if dose >= flip else 0.9,
        )
        for case, flips in FLIPS.items()
        for stored, flip in zip(("float", storage), flips, strict=True)
        for dose in DOSES
    ]


@pytest.fixture
def frame() -> pd.DataFrame:
    refined = response_row(case_id="c", storage="png8", epsilon=0.002, on_grid=False, probability=0.2, linf=0.0039)
    return to_frame([*rows(), refined, *rows("stored_pgd", "stored_pgd", linf=0.002)])


def test_survival_is_counted_among_what_floats_flip(frame: pd.DataFrame) -> None:
    table = survival(frame).query("preset == 'sound'").set_index("epsilon")
    assert table["n"].to_dict() == {0.001: 2, 0.003: 3}
    assert table["survived"].to_dict() == {0.001: 0, 0.003: 2}
    assert table.loc[0.003, "share"] == pytest.approx(2 / 3)
    low, high = table.loc[0.003, ["share_low", "share_high"]]
    assert (round(low, 4), round(high, 4)) == (0.2077, 0.9385)  # R: prop.test(2, 3, correct = FALSE)


def test_survival_without_flips_or_without_floats(frame: pd.DataFrame) -> None:
    table = survival(frame[(frame["case_id"] == "d") | (frame["case_id"] == "e")])
    assert (table["n"] == 0).all()
    assert table["share"].isna().all()
    assert survival(frame[frame["storage"] != "float"]).empty
    assert not is_stored(frame[frame["storage"] == "float"])
    assert "survival" not in build_tables_of(frame[frame["storage"] == "float"])


def build_tables_of(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    from dosimeter.record.table import Responses

    return build_tables(Responses(frame, {"classifiers": []}))


def test_the_deployed_epsilon_is_the_smallest_whose_file_flips(frame: pd.DataFrame) -> None:
    table = deployed_epsilon(frame).query("preset == 'sound'").set_index("case_id")
    assert list(table.index) == ["a", "b", "c", "d"]
    assert table["censored"].tolist() == [False, True, False, True]
    assert table.loc["a", ["deployed_epsilon", "uncertainty"]].tolist() == pytest.approx([0.003, 0.002])
    assert table.loc["c", ["deployed_epsilon", "uncertainty"]].tolist() == pytest.approx([0.002, 0.001])
    assert table.loc["c", "linf"] == pytest.approx(0.0039)
    assert table.loc["b", ["deployed_epsilon", "linf"]].isna().all()


def test_its_median_counts_what_never_flips_as_infinite(frame: pd.DataFrame) -> None:
    table = deployed_median(frame).set_index("preset")
    assert table["aware"].to_dict() == {"sound": False, "stored_pgd": True}
    assert (table["n"] == 4).all()
    assert (table["n_censored"] == 2).all()
    assert table.loc["sound", "deployed_epsilon"] == 0.003  # of 0.002, 0.003, never, never
    assert table.loc["stored_pgd", "linf"] == pytest.approx(0.002)
    assert table[["deployed_epsilon_low", "linf_high"]].isna().all(axis=None)  # four are too few
    many = pd.concat([frame.assign(case_id=frame["case_id"] + str(copy)) for copy in range(4)], ignore_index=True)
    bounded = deployed_median(many)
    assert bounded["high_censored"].all()  # half of 16 never flip
    assert (bounded["deployed_epsilon_low"] <= bounded["deployed_epsilon"]).all()
    never = deployed_median(frame[frame["case_id"].isin(["b", "d"])])
    assert never["censored"].all()
    assert never["deployed_epsilon"].isna().all()
    assert (never["epsilon_max"] == 0.003).all()


def test_seeds_are_kept_apart(frame: pd.DataFrame) -> None:
    both = pd.concat([frame, frame.assign(seed=1)], ignore_index=True)
    assert set(survival(both)["seed"]) == {0, 1}
    assert len(deployed_median(both)) == 2 * len(deployed_median(frame))


def test_report_and_figure(frame: pd.DataFrame, tmp_path: Path) -> None:
    tables = {each.__name__: each(frame) for each in (survival, deployed_epsilon, deployed_median)}
    views = list(storage_tables(tables, [("xray-268", "paper")]))
    assert [len(view.rows) for view in views] == [2, 2]
    shown = {cell.text for view in views for row in view.rows for cell in row}
    assert {"66.7 %", "0.003", "8-bit PNG", "looks for a file"} <= shown
    (sentence,) = storage_sentences(tables, {})
    assert not storage_sentences(tables, {"config": {"bits": 12}})  # its files would be others
    assert "0.51 8-bit levels" in sentence
    assert "rounded afterwards" in sentence
    axes = survival_curves(tables["survival"]).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["VGG16\nFGSM, sound preset", "VGG16\nPGD for 8-bit files"]
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), [0, 2 / 3])


def test_a_run_tells_of_every_storage_what_older_runs_take_for_granted() -> None:
    for name in storages():
        assert StorageKind(**kind(name)) == storage_kind(name)
    assert set(LOOKS) == set(storages()) - {"float"}
