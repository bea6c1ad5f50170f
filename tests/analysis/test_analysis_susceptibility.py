"""Which images fall first: ranks counted by hand, scipy as the reference of their correlation."""

import numpy as np
import pandas as pd
import pytest
from response_factory import ATTACKS, make_responses
from scipy.stats import spearmanr
from test_analysis_attacks import SMALL, counted, of

from dosimeter.analysis.names import WORST_CASE
from dosimeter.analysis.susceptibility import most_susceptible, rank_agreement, susceptibility, weighted_spearman
from dosimeter.record.table import to_frame

Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return to_frame(counted())


@pytest.fixture(scope="module")
def tables() -> Tables:
    run = make_responses(**SMALL, attacks=tuple(ATTACKS))
    return {analyse.__name__: analyse(run.frame) for analyse in (susceptibility, rank_agreement, most_susceptible)}


def test_ranks_share_places_and_censored_images_come_last(frame: pd.DataFrame) -> None:
    table = susceptibility(frame)
    assert set(table["preset"]) == {"paper", "sound", "pgd", WORST_CASE}  # no control, no transfer
    sound = of(table, "sound")
    assert sound["case_id"].to_list() == ["a", "c", "b"]
    assert sound["rank"].to_list() == [1, 2, 3]
    assert sound["censored"].to_list() == [False, False, True]
    assert of(table, "paper")["rank"].to_list() == [2, 2, 2]
    assert set(sound["n"]) == {3}


def test_weighted_spearman_is_scipys_with_ties_and_repeats() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
    first[first == 5] = second[second == 5] = np.inf
    weights = np.stack([np.ones(30), rng.integers(0, 4, 30)]).astype(float)
    found = weighted_spearman(first, second)(weights)
    for value, drawn in zip(found, weights.astype(int), strict=True):
        x, y = np.repeat(first, drawn), np.repeat(second, drawn)
        ranks = [pd.Series(each).rank() for each in (x, y)]
        assert value == pytest.approx(spearmanr(*ranks).statistic)
    assert weighted_spearman(first, first)(weights) == pytest.approx([1, 1])
    assert np.isnan(weighted_spearman(first, np.ones(30))(weights)).all()
    assert np.isnan(weighted_spearman(np.empty(0), np.empty(0))(np.ones((1, 0)))).all()


def test_rank_agreement_is_over_images_that_both_models_have_right(tables: Tables) -> None:
    ranks, agreement = of(tables["susceptibility"], "pgd"), of(tables["rank_agreement"], "pgd")
    one, other = (
        ranks[ranks["model"] == model].set_index("case_id")["flip_epsilon"] for model in ("vgg16", "inception_v3")
    )
    both = pd.concat([one, other], axis=1, join="inner")
    (row,) = agreement.to_dict("records")
    assert (row["model"], row["other"], row["n"]) == ("inception_v3", "vgg16", len(both))
    assert row["spearman"] == pytest.approx(both.corr("spearman").iloc[0, 1])
    assert row["spearman_low"] < row["spearman"] < row["spearman_high"]


def test_the_most_susceptible_images_fall_first_and_are_counted_across_models(tables: Tables) -> None:
    table = tables["most_susceptible"]
    for model, rows in table.groupby("model"):
        assert rows["place"].to_list() == list(range(1, 11))
        assert rows["flip_epsilon"].is_monotonic_increasing
        first = of(tables["susceptibility"], WORST_CASE, model=model).head(10)
        assert rows["case_id"].to_list() == first["case_id"].to_list()
        for row in rows.to_dict("records"):
            own = of(
                tables["susceptibility"], row["first_attack"], model=model, case_id=row["case_id"], storage="float"
            )
            assert own["flip_epsilon"].iloc[0] == row["flip_epsilon"]
    shared = set.intersection(*(set(rows["case_id"]) for _, rows in table.groupby("model")))
    assert set(table.loc[table["n_models_listing"] == 2, "case_id"]) == shared
    assert set(table["n_attacks"]) == {14}  # sound and thirteen more
