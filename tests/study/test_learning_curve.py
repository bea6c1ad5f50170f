"""Learning curves: nested draws of training patients, the runs, the table and the figure."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.cohorts.split import draw_training, split
from dosimeter.errors import DosimeterError


def halves(seed: int = 0) -> object:
    return split(dm.load_cohort("phantom-xray", limit=60), "paper", seed=seed)


def test_a_smaller_draw_is_part_of_a_larger_one_and_keeps_the_shares_of_the_classes() -> None:
    whole = halves()
    drawn = {n: draw_training(whole, n) for n in (4, 10, 20)}
    names = {n: {record.case_id for record in each.train.records} for n, each in drawn.items()}
    assert names[4] < names[10] < names[20]
    for n, each in drawn.items():
        assert abs(each.train.labels.mean() - whole.train.labels.mean()) <= 1 / n
        assert each.test.sha256 == whole.test.sha256
        assert each.n_unused == whole.n_unused + len(whole.train) - len(each.train)
    assert names[4] != {record.case_id for record in draw_training(halves(seed=1), 4).train.records}


def test_too_many_patients_are_one_sentence() -> None:
    with pytest.raises(DosimeterError, match="train_patients must be at most"):
        draw_training(halves(), 1000)


@pytest.mark.slow  # a study for each point of the curve
@pytest.mark.usefixtures("tiny_networks")
def test_the_command_leaves_runs_a_table_and_a_figure(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    asked = ["--cohort", f"csv:{image_folder / 'cases.csv'}", "--model", "vgg16", "--epochs", "1", "--out", str(out)]
    command = ["learning-curve", *asked, "--sizes", "3,5", "--repeats", "2", "--epsilons", "0.01", "--attack", "pgd"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "learning_curve.csv")
    assert table["patients"].unique().tolist() == [3, 5]
    clean = table[(table["quantity"] == "accuracy") & table["epsilon"].isna()]
    assert clean["n_repeats"].tolist() == [2, 2]
    assert clean["images"].is_monotonic_increasing
    assert {"sound", "pgd"} <= set(table["preset"].dropna())
    assert (out / "learning_curve.svg").is_file()
    assert "right without attack" in result.output


@pytest.mark.parametrize("sizes", ["0", "5,3", "a", "3,3"])
def test_sizes_that_are_none_are_one_sentence(sizes: str, tmp_path: Path) -> None:
    command = ["learning-curve", "--cohort", "phantom-xray", "--out", str(tmp_path), "--sizes", sizes]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, DosimeterError)  # which the program says in a line, exit code 2
    assert "sizes must be" in str(result.exception)
