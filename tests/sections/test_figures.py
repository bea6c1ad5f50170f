"""Figures: what is drawn is what the table says, the files are reproducible, nothing leaks into matplotlib."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sketches
from matplotlib.figure import Figure
from PIL import Image
from response_factory import ATTACKS, make_responses, response_row
from sklearn.metrics import roc_auc_score, roc_curve

from dosimeter.analysis.base import answered
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.names import WORST_CASE, in_order, series_name
from dosimeter.attacks.registry import names
from dosimeter.presentation.style import attack_look, save
from dosimeter.record.table import Responses, to_frame
from dosimeter.report.build import build_tables
from dosimeter.report.figures import slug, write_figures
from dosimeter.sections.attacks.figures import (
    class_flip_curves,
    cost_against_strength,
    security_curves,
    susceptibility_scatter,
    transfer_matrices,
)
from dosimeter.sections.figures.curves import accuracy_curves, zero_gradients
from dosimeter.sections.figures.drops import drop_epsilon, median_drop, single_image_drop
from dosimeter.sections.figures.pictures import (
    FOOT_PX,
    GAP_PX,
    HEAD_PX,
    LEFT_PX,
    Triptych,
    adversarial_image,
    adversarial_pictures,
    triptychs,
)
from dosimeter.sections.figures.training import METRICS, metric_bars, roc_curves, roc_points, training_curves

EPSILONS = (0.0, 1e-3, 3e-3, 9e-3, 0.08)
CLASSES = ("other", "COVID-19")


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=12)


@pytest.fixture(scope="module")
def tables(run: Responses) -> dict[str, pd.DataFrame]:
    return build_tables(run)


@pytest.fixture(scope="module")
def attacked() -> Responses:
    return make_responses(
        cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=12, attacks=tuple(ATTACKS), transfers=("pgd",)
    )


@pytest.fixture(scope="module")
def many(attacked: Responses) -> dict[str, pd.DataFrame]:
    """The tables of a run with every attack."""
    return build_tables(attacked)


def unmarked(figure: Figure) -> list[str]:
    """Return the labels of a legend without the verdicts on evaluations (see test_marks.py)."""
    texts = [text.get_text().partition("\n")[0] for text in figure.legends[0].get_texts()]
    return [text.removesuffix(" ✕").removesuffix(" ▲") for text in texts]


def answers_of(*cases: tuple[int, float, float]) -> pd.DataFrame:
    """Return answers of cases (label, probability of class 1 at epsilon 0, the same at 0.009)."""
    rows = [
        response_row(case_id=f"{index:05d}-0", label=label, epsilon=epsilon, probability=probability)
        for index, (label, before, after) in enumerate(cases)
        for epsilon, probability in ((0.0, before), (0.009, after))
    ]
    return answered(to_frame(rows))


def test_roc_points_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 12, 60).astype(float)  # many ties
    false_rate, true_rate = roc_points(labels, scores)
    expected = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(false_rate, expected[0])
    np.testing.assert_allclose(true_rate, expected[1])
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(roc_auc_score(labels, scores))


def test_roc_legend_states_auc_and_interval(run: Responses, tables: dict[str, pd.DataFrame]) -> None:
    answers = answered(run.frame)
    figure = roc_curves(answers[answers["epsilon"] == 0], tables["clean_metrics"])
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    row = tables["clean_metrics"].set_index("model").loc["vgg16"]
    assert texts[0] == f"VGG16: AUC {row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"
    assert texts[1].startswith("Inception-v3: AUC")


def test_training_curves_show_the_history(tables: dict[str, pd.DataFrame]) -> None:
    figure = training_curves(tables["training"])
    history = tables["training"][tables["training"]["model"] == "vgg16"]
    train, test = figure.axes[0].get_lines()
    np.testing.assert_array_equal(train.get_ydata(), history["train_accuracy"])
    np.testing.assert_array_equal(test.get_ydata(), history["test_accuracy"])
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["VGG16", "Inception-v3"]


def test_metric_bars_have_the_values_as_heights(tables: dict[str, pd.DataFrame]) -> None:
    clean = tables["clean_metrics"]
    bars = metric_bars(clean).axes[0].containers[0]
    expected = clean.set_index("model").loc["vgg16", list(METRICS)].to_numpy(dtype=float)
    np.testing.assert_allclose([patch.get_height() for patch in bars], expected)


def test_accuracy_curves_draw_the_table_the_paper_and_grey_levels(tables: dict[str, pd.DataFrame]) -> None:
    curves = tables["fgsm_accuracy"]
    figure = accuracy_curves(curves)
    ax = figure.axes[0]
    lines = {line.get_marker(): line for line in ax.get_lines()}
    sound = curves.query("model == 'vgg16' and preset == 'sound' and storage == 'float'")
    np.testing.assert_array_equal(lines["s"].get_xdata(), sound["epsilon"])
    np.testing.assert_array_equal(lines["s"].get_ydata(), sound["accuracy"])
    published = dict(zip(lines["D"].get_xdata(), lines["D"].get_ydata(), strict=True))
    assert published == pytest.approx({0.001: 0.9444, 0.003: 0.7407, 0.009: 0.1667})  # table 4
    (half,) = {line.get_xdata()[0] for line in ax.get_lines() if len(set(line.get_xdata())) == 1}
    assert half == pytest.approx(0.5 / 255)
    top = figure.axes[-1]
    labels = [text.get_text() for text in top.get_xticklabels()]
    np.testing.assert_allclose(top.get_xticks(), [float(label) / 255 for label in labels])
    assert top.get_xlim() == ax.get_xlim()
    left, right = ax.transData.transform([(0, 0), (EPSILONS[-1], 0)])[:, 0]
    assert ax.bbox.x0 < left < right < ax.bbox.x1  # 0 is on the axis, at its left


def test_unchanged_share_is_drawn_without_epsilon_zero(tables: dict[str, pd.DataFrame]) -> None:
    curves = tables["fgsm_accuracy"]
    below = zero_gradients(curves).axes[3]  # Inception-v3's lower panel
    (line,) = [line for line in below.get_lines() if line.get_marker() == "o"]
    paper = curves.query("model == 'inception_v3' and preset == 'paper' and epsilon > 0")
    np.testing.assert_array_equal(line.get_xdata(), paper["epsilon"])
    np.testing.assert_array_equal(line.get_ydata(), paper["unchanged_share"])
    assert paper["unchanged_share"].min() > 0.5


@pytest.mark.parametrize(
    ("cases", "chosen", "n", "survived"),
    [
        # drops 0.1, 0.3 and 0.2 among survivors; the fourth flips, the fifth was wrong
        ([(1, 0.9, 0.8), (1, 0.9, 0.6), (0, 0.1, 0.3), (1, 0.9, 0.1), (0, 0.8, 0.9)], "00002-0", 3, True),
        ([(1, 0.9, 0.8), (1, 0.9, 0.6)], "00000-0", 2, True),  # the lower median
        ([(1, 0.9, 0.8), (0, 0.1, 0.2)], "00000-0", 2, True),  # equal drops: the first case
        ([(1, 0.9, 0.4), (0, 0.2, 0.9), (1, 0.1, 0.9)], "00000-0", 2, False),  # none survives
    ],
)
def test_median_drop_follows_its_rule(
    cases: list[tuple[int, float, float]], chosen: str, n: int, survived: bool
) -> None:
    drop = median_drop(answers_of(*cases), 0.009)
    assert drop is not None
    assert (drop.case_id, drop.n, drop.survived) == (chosen, n, survived)


def test_median_drop_of_nothing_correct_is_none_and_is_said() -> None:
    answers = answers_of((1, 0.1, 0.1))
    assert median_drop(answers, 0.009) is None
    texts = [text.get_text() for text in single_image_drop(answers, CLASSES).axes[0].texts]
    assert texts == ["no image answered correctly"]


def test_drop_epsilon_is_the_papers_or_the_nearest(run: Responses) -> None:
    answers = answered(run.frame)
    assert drop_epsilon(answers) == 0.009
    assert drop_epsilon(answers[answers["epsilon"] != 0.009]) == 0.003


def test_adversarial_image_clips_and_colours() -> None:
    grey = np.array([[0.0, 0.5], [1.0, 0.25]])
    up = np.ones((2, 2))
    np.testing.assert_allclose(adversarial_image(grey, up, 0.5), [[0.5, 1.0], [1.0, 0.75]])
    np.testing.assert_allclose(adversarial_image(grey, -up, 0.5), [[0.0, 0.0], [0.5, 0.0]])
    colour = np.stack([up, 0 * up, -up], axis=-1)
    attacked = adversarial_image(grey, colour, 0.1)
    assert attacked.shape == (2, 2, 3)
    np.testing.assert_allclose(attacked[0, 1], [0.6, 0.5, 0.4])
    np.testing.assert_array_equal(adversarial_image(attacked, up, 0.0), attacked)


def test_triptychs_take_epsilons_and_probabilities_from_the_table(run: Responses) -> None:
    answers = answered(run.frame).query("model == 'vgg16' and storage == 'float'")
    doses = choose_exemplar(run.frame).query("model == 'vgg16'")
    exemplars = [item for item in run.meta["exemplars"] if item["model"] == "vgg16"]
    rows = triptychs(exemplars, answers, doses)
    assert [row.title for row in rows] == [
        f"{preset} preset, {reason} epsilon"
        for preset in ("paper", "sound")
        for reason in ("smallest flip", "paper’s visible")
    ]
    flip, visible = rows[:2]
    case = answers.query(f"preset == 'paper' and case_id == '{exemplars[0]['case_id']}'")
    assert flip.epsilon == case.loc[~case["correct"], "epsilon"].min()
    assert flip.after[1] == case.loc[case["epsilon"] == flip.epsilon, "probability"].iloc[0]
    assert flip.before[1] == case.loc[case["epsilon"] == 0, "probability"].iloc[0]
    assert visible.epsilon == 0.08  # the paper's, for X-rays
    assert set(np.unique(flip.direction)) == {-1.0, 1.0}


def test_pictures_are_exact_to_the_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, (60, 200)) / 255
    row = Triptych(
        "t", 0.1, original, rng.choice([-1.0, 0.0, 1.0], (60, 200, 3)), np.array([0.1, 0.9]), np.array([0.8, 0.2]), 1
    )
    figure = adversarial_pictures([row, row], CLASSES)
    _, png = save(figure, tmp_path / "pictures")
    pixels = np.asarray(Image.open(png).convert("RGB"))
    assert pixels.shape == (2 * (HEAD_PX + 60 + FOOT_PX), 2 * LEFT_PX + 3 * 200 + 2 * GAP_PX, 3)
    for top in (HEAD_PX, 2 * HEAD_PX + 60 + FOOT_PX):
        for column, expected in ((0, original[..., None]), (1, (row.direction + 1) / 2), (2, row.adversarial)):
            left = LEFT_PX + column * (200 + GAP_PX)
            shown = pixels[top : top + 60, left : left + 200]
            np.testing.assert_array_equal(shown, np.broadcast_to(np.rint(expected * 255), shown.shape))
    texts = [text.get_text() for text in figure.texts]
    assert "COVID-19 0.900, right" in texts
    assert "other 0.800, wrong" in texts


@pytest.mark.usefixtures("drawn")
def test_write_figures_names_them_as_the_paper_does(tmp_path: Path) -> None:
    run = make_responses(
        cohorts={"covid-ct": "ct"}, models=("vgg16",), presets=("sound",), epsilons=EPSILONS, n_cases=6
    )
    before = dict(mpl.rcParams)
    figures = write_figures(run, build_tables(run), tmp_path)
    assert dict(mpl.rcParams) == before
    assert [figure.name.removeprefix("covid-ct-paper-") for figure in figures] == [
        *(
            "answer",
            "fig09-training",
            "fig09-roc",
            "fig10-metrics",
            "fig11-pictures-vgg16",
            "fig12-accuracy",
            "fig13-drop",
        ),
        *("fig14-unchanged", "survival"),
    ]
    assert figures[5].title == "Accuracy against epsilon: covid-ct, paper protocol"
    assert figures[5].caption.endswith("In the paper it is figure 12.")
    assert all(figure.path_svg.is_file() and figure.path_png.is_file() for figure in figures)


@pytest.mark.slow  # all figures of two runs
@pytest.mark.usefixtures("drawn")
def test_a_picture_of_a_preset_without_rows_is_left_out(tmp_path: Path) -> None:
    run = make_responses(cohorts={"covid-ct": "ct"}, models=("vgg16",), presets=("sound",), n_cases=6)
    ghosts = [{**each, "preset": "paper"} for each in run.meta["exemplars"]]
    made = replace(run, meta=run.meta | {"exemplars": [*run.meta["exemplars"], *ghosts]})
    names = [[figure.name for figure in write_figures(each, build_tables(each), tmp_path)] for each in (run, made)]
    assert names[0] == names[1]


def test_the_same_table_gives_the_same_bytes(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    first, second = (save(metric_bars(tables["clean_metrics"]), tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"dc:date" not in first[0].read_bytes()


@pytest.mark.slow  # all figures of a run
@pytest.mark.usefixtures("drawn")
def test_another_modality_with_hostile_names_is_drawn(tmp_path: Path) -> None:
    cohort = "folder:/x/<script> $\\frac{"
    run = make_responses(cohorts={cohort: ""}, models=("my$net",), epsilons=(0.0, 0.01), n_cases=4, error_row=False)
    run.meta["cohorts"][0]["classes"] = ["$x_{", "<b>" + 40 * "long"]
    tables = build_tables(run)
    figures = write_figures(run, tables | {"training": tables["training"].iloc[:0]}, tmp_path)
    assert all(figure.path_png.parent == tmp_path and figure.path_png.is_file() for figure in figures)
    assert all("fig" not in figure.name for figure in figures)
    assert {figure.title.split(":")[0] for figure in figures} >= {"Accuracy against epsilon", "ROC without attack"}


def test_a_run_without_answers_has_no_figures(run: Responses, tmp_path: Path) -> None:
    failed = Responses(run.frame[run.frame["status"] == "error"], run.meta)
    assert write_figures(failed, build_tables(failed), tmp_path) == []


def test_slugs_are_safe_and_never_shared() -> None:
    assert slug("covid-ct") == "covid-ct"
    hostile = ["folder:/a/b", "folder:/a b", "../../etc", "a" * 300, "a" * 301, "ä", "ö", ""]
    slugs = [slug(name) for name in hostile[:-1]]
    assert len(set(slugs)) == len(slugs)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") and len(name) < 70 for name in slugs)


def test_models_keep_the_papers_order() -> None:
    assert in_order(["resnet", "inception_v3", "alexnet", "vgg16", "vgg16"]) == [
        *("vgg16", "inception_v3", "alexnet", "resnet"),
    ]


def test_reading_a_run_needs_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; from dosimeter.report.sections import in_order; in_order(); "
        "print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


# --- many attacks


def test_security_curves_draw_every_attack_but_transfers_and_the_worst_case_thickest(
    many: dict[str, pd.DataFrame],
) -> None:
    robust = many["robust_accuracy"]
    figure = security_curves(robust)
    ax = figure.axes[0]
    thickest = max(ax.get_lines(), key=lambda line: line.get_linewidth())
    worst = robust.query(f"model == 'vgg16' and preset == '{WORST_CASE}'")
    np.testing.assert_array_equal(thickest.get_ydata(), worst["accuracy"])
    labels = unmarked(figure)
    assert labels[:3] == ["FGSM, paper preset", "FGSM, sound preset", "FGSM"]
    assert labels[-3:] == ["worst case over attacks", "95 % interval", "95 % band, whole curve"]
    assert len(labels) == len(names()) + 5
    assert not any(" from " in label for label in labels)
    assert len(ax.collections) == 4  # intervals and bands of the worst case and the sound preset alone


def test_every_attack_has_a_marker_of_its_own_and_controls_are_grey() -> None:
    looks = {name: attack_look(name) for name in names()}
    assert len({look.marker for look in looks.values()}) == len(looks)
    grey = {name for name, look in looks.items() if look.color == attack_look("random_sign").color}
    assert grey == {"random_sign", "uniform_noise"}


def test_class_flips_are_drawn_with_the_classes_names(many: dict[str, pd.DataFrame]) -> None:
    figure = class_flip_curves(many["class_flips"], CLASSES)
    worst = many["class_flips"].query(f"model == 'vgg16' and preset == '{WORST_CASE}' and label == 1")
    thick = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    np.testing.assert_array_equal(thick[0].get_ydata(), worst["share"])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["COVID-19 answered as other", "other answered as COVID-19"]


def test_susceptibility_scatter_puts_what_never_flips_beyond_the_line() -> None:
    ranks = pd.DataFrame({
        "model": ["vgg16"] * 3 + ["inception_v3"] * 3, "case_id": list("abcabd"), "label": [1, 0, 1, 1, 0, 1],
        "flip_epsilon": [0.001, 0.004, 0.002, 0.002, np.nan, 0.003],
    })  # fmt: skip
    agreement = pd.DataFrame({
        "model": ["inception_v3"], "other": ["vgg16"], "n": [2], "spearman": [1.0], "spearman_low": [np.nan],
        "spearman_high": [np.nan],
    })  # fmt: skip
    ax = susceptibility_scatter(ranks, agreement, CLASSES).axes[0]
    positive, negative = (points.get_offsets() for points in ax.collections)
    np.testing.assert_allclose(positive, [[0.001, 0.002]])  # c and d are right on one model only
    line = max(edge.get_xdata()[0] for edge in ax.get_lines() if len(set(edge.get_xdata())) == 1)
    assert negative[0][0] == 0.004
    assert negative[0][1] > line > 0.004
    assert ax.get_title(loc="left").startswith("rank correlation 1.00\nof n = 2 images")


def test_transfer_matrices_write_shares_and_counts(many: dict[str, pd.DataFrame]) -> None:
    moved = many["transfer"]
    figure = transfer_matrices(moved)
    assert len(figure.axes) == 3
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["PGD, 0.001", "0.003", "0.009"]
    texts = {tuple(text.get_position()): text for text in figure.axes[1].texts}
    row = moved.query("made_on == 'vgg16' and model == 'inception_v3' and epsilon == 0.003").iloc[0]
    assert texts[1, 0].get_text() == f"{100 * row['share']:.0f} %\nn = {row['n']}"
    assert texts[0, 0].get_fontweight() == "bold"  # the white box


def test_cost_against_strength_puts_the_censored_at_the_edge(many: dict[str, pd.DataFrame]) -> None:
    figure = cost_against_strength(many["cost"], many["epsilon50"])
    points = {line.get_marker(): line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1}
    square = many["epsilon50"].query("model == 'vgg16' and preset == 'square'")["epsilon50"].iloc[0]
    passes, strength = points[attack_look("square").marker].get_data()
    assert (float(passes[0]), float(strength[0])) == (ATTACKS["square"].n_queries, square)
    _, edge = points[attack_look("random_sign").marker].get_data()
    assert edge[0] == pytest.approx(1.5 * EPSILONS[-1])


def test_a_run_with_attacks_adds_figures_without_numbers(
    attacked: Responses, many: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    names = ["security", "harm", "susceptibility", "transfer", "cost"]
    with sketches.drawn_alone(*names):
        figures = write_figures(attacked, many, tmp_path)
    beyond = [figure.name.removeprefix("xray-268-paper-") for figure in figures if figure.section == "attacks"]
    assert beyond == names
    assert [figure.name for figure in figures if figure.section == "storage"] == ["xray-268-paper-survival"]
    study = [figure.name for figure in figures if figure.section == "figures"]
    assert all("-fig" in name for name in study)
    assert all(figure.path_svg.is_file() and figure.path_png.is_file() for figure in figures)


def test_the_study_s_figures_show_fgsm_alone(attacked: Responses, many: dict[str, pd.DataFrame]) -> None:
    labels = unmarked(accuracy_curves(many["fgsm_accuracy"]))
    assert labels[:4] == ["FGSM, floats", "paper preset, floats", "sound preset, floats", "sound preset, 8-bit PNG"]
    assert series_name("carlini_wagner", "float") == "Carlini-Wagner, floats"
    assert series_name("margin, tied", "png8") == "margin, tied preset, 8-bit PNG"
