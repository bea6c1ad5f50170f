"""Tables, figures and methods for a paper: what stands in them is the run's, and LaTeX sets it within its width."""

import csv
import functools
import io
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from every_table import CLASSES, EVERY
from matplotlib.figure import Figure
from matplotlib.text import Text
from response_factory import make_responses

import dosimeter
from dosimeter import registry
from dosimeter.analysis import names
from dosimeter.errors import DosimeterError
from dosimeter.presentation.lengths import POINTS_PER_INCH, parse_length
from dosimeter.presentation.numbers import dose
from dosimeter.presentation.paper import Entry, Field, PaperTable, Sheet, sheets
from dosimeter.presentation.section import Section
from dosimeter.presentation.tex import breakable, escape
from dosimeter.presentation.typeset import comma_separated, document, latex, markdown, width_pt
from dosimeter.record.table import Responses, compact
from dosimeter.report import methods
from dosimeter.report.build import build_tables, write_tables
from dosimeter.report.fitting import is_crowded
from dosimeter.report.paper import Paper, for_paper, of_tables, write
from dosimeter.report.prints import Look, check_look, save
from dosimeter.report.quoted import Quoted
from dosimeter.sections.physical.for_paper import PAPER

ROOT = Path(__file__).parents[2]
ARTICLE_MM = 121.0


def responses(**changes: Any) -> Responses:
    made = make_responses(**{"cohorts": {"xray-268": "xray"}, "exemplars": False, "refine": False, **changes})
    return Responses(compact(made.frame), made.meta)


@pytest.fixture(scope="module")
def run() -> Responses:
    return responses(attacks=("pgd", "random_sign"), transfers=("pgd",), epsilons=(0.0, 1e-3, 3e-3, 9e-3, 0.08))


@pytest.fixture(scope="module")
def tables(run: Responses) -> dict[str, pd.DataFrame]:
    with names.of(run.meta):
        return build_tables(run)


@pytest.fixture(scope="module")
def paper(run: Responses, tables: dict[str, pd.DataFrame]) -> Paper:
    with names.of(run.meta):
        return of_tables(tables, run)


def sheet(paper: Paper, name: str) -> Sheet:
    return next(each for each in paper.sheets if each.name == name)


def column(found: Sheet, head: str) -> list[str]:
    place = [" ".join(filter(None, each)) for each in found.heads].index(head)
    return [row[place].text for row in found.rows]


# --- what stands in them --------------------------------------------------------------------------------------


def test_cells_are_the_numbers_of_the_report(run: Responses, tables: dict[str, pd.DataFrame], paper: Paper) -> None:
    clean = tables["clean_metrics"]
    found = sheet(paper, "clean_metrics")
    expected = [
        f"{100 * row.accuracy:.1f} ({100 * row.accuracy_low:.0f}–{100 * row.accuracy_high:.0f})"
        for row in clean.itertuples()
    ]
    assert column(found, "Accuracy %") == expected
    assert column(found, "Model") == ["Inception-v3", "VGG16"]
    assert "n = 24 images" in found.caption  # one number for all: said once
    assert "95 % Wilson intervals by patient" in found.caption
    assert f"dosimeter {run.meta['dosimeter_version']}, run {run.meta['run_id']}" in found.caption


def test_every_sheet_has_few_columns(paper: Paper) -> None:
    assert {each.name for each in paper.sheets} >= {"clean_metrics", "fgsm_accuracy", "epsilon50", "robust_accuracy"}
    for each in paper.sheets:
        assert len(each.heads) - each.keys <= 8, each.name
        assert all(len(row) == len(each.heads) for row in each.rows)
        assert not any("_" in line for head in each.heads for line in head), each.heads
    assert "flip_epsilon" in paper.left_out  # a row an image


def test_numbers_of_evaluations_that_did_not_pass_carry_a_sign(paper: Paper) -> None:
    accuracies = sheet(paper, "fgsm_accuracy")
    heads = [" ".join(head) for head in accuracies.heads]
    published = next(place for place, head in enumerate(heads) if "Inception-v3" in head and "paper preset" in head)
    sound = next(place for place, head in enumerate(heads) if "Inception-v3" in head and "sound preset floats" in head)
    start, *attacked = accuracies.rows
    assert start[published].sign == ""  # without attack nothing was judged
    assert {row[published].sign for row in attacked} == {"†"}
    assert {row[sound].sign for row in attacked} == {""}
    assert "† UNRELIABLE" in accuracies.caption


def test_medians_beyond_the_grid_are_above_it() -> None:
    run = responses(epsilons=(0.0, 1e-6, 2e-6), presets=("sound",), models=("vgg16",))
    with names.of(run.meta):
        found = sheet(for_paper(run, ["epsilon50"]), "epsilon50")
    assert column(found, "Epsilon50 10⁻³") == [">0.002"] * len(found.rows)


def test_several_trials_are_several_sheets_of_what_stands_side_by_side() -> None:
    run = responses(cohorts={"xray-268": "xray", "covid-ct": "ct"}, models=("vgg16",), presets=("sound",))
    with names.of(run.meta):
        found = for_paper(run, ["fgsm_accuracy", "clean_metrics"])
    assert [each.name for each in found.sheets] == [
        "clean_metrics",
        "fgsm_accuracy-covid-ct-paper",
        "fgsm_accuracy-xray-268-paper",
    ]
    assert column(found.sheets[0], "Cohort") == ["covid-ct", "xray-268"]


def test_a_table_that_no_paper_shows_is_one_sentence(run: Responses, tables: dict[str, pd.DataFrame]) -> None:
    for name, said in (
        ("flip_epsilon", "take tables/flip_epsilon.csv"),
        ("clean_metric", "Did you mean 'clean_metrics'"),
    ):
        with names.of(run.meta), pytest.raises(DosimeterError, match=said):
            of_tables(tables, run, [name])


@functools.cache
def of_every_kind() -> dict[str, tuple[dict[str, pd.DataFrame], Paper]]:
    """The tables of a run of every kind, and what a paper shows of them."""
    found = {}
    for kind, make in EVERY.items():
        made = make()
        with names.of(made.meta):
            run = Responses(compact(made.frame), made.meta)
            tables = build_tables(run)
            found[kind] = tables, of_tables(tables, run)
    return found


def sections() -> Iterator[Section]:
    yield from (registry.get("sections", name) for name in registry.names("sections"))


@pytest.mark.slow  # builds every table there is, of several runs
def test_every_section_names_columns_that_its_tables_have() -> None:
    made = [tables for tables, _ in of_every_kind().values()]
    for section in sections():
        for name, spec in section.paper.items():
            filled = [tables[name] for tables in made if len(tables.get(name, ()))]
            assert filled, name
            prepared = [spec.rows(table) for table in filled]
            for table in prepared:
                columns = {*table.columns, *(field.name for field in spec.keys if field.name == "storage")}
                assert {field.name for field in (*spec.keys, *spec.numbers, *spec.across)} <= columns, name


def test_a_paper_shows_every_table_but_those_with_a_row_an_image_an_epoch_or_an_attack() -> None:
    long = {
        "flip_epsilon",
        "deployed_epsilon",
        "susceptibility",
        "most_susceptible",
        "data_pairs",
        "training",
        "margins",
    }
    wide = {"rank_agreement", "taxonomy", "evidence"}
    captions = {name for section in sections() for name in section.captions}
    shown = {name for section in sections() for name in section.paper}
    assert captions - shown == long | wide
    assert {each.name.partition("-")[0] for _, paper in of_every_kind().values() for each in paper.sheets} >= shown


def test_classes_are_called_by_their_names_and_stand_side_by_side() -> None:
    tables, paper = of_every_kind()["of_classes"]
    confusion = sheet(paper, "confusion_by_class")
    assert [head[-1] for head in confusion.heads[1:]] == ["True class", *CLASSES]
    counted = tables["confusion_by_class"]
    first = counted[(counted["model"] == counted["model"].iloc[0]) & (counted["label"] == 1)]
    assert [cell.value for cell in confusion.rows[1][2:]] == [str(each) for each in first["images"]]
    assert column(sheet(paper, "class_auc"), "Class")[:5] == [*CLASSES, "mean over classes"]
    flips = sheet(paper, "flips_by_class")
    assert column(flips, "True class")[:4] == list(CLASSES)
    assert "epsilon 0.009" in flips.caption


def test_metrics_of_visibility_stand_side_by_side_with_their_quartiles() -> None:
    tables, paper = of_every_kind()["attacked"]
    seen = tables["visibility"]
    found = sheet(paper, "visibility")
    row = next(row for row in found.rows if [cell.text for cell in row[:3]] == ["VGG16", "PGD", "0.003"])
    mine = seen[(seen["model"] == "vgg16") & (seen["preset"] == "pgd") & (seen["epsilon"] == 3e-3)]
    mine = mine[mine["storage"] == "float"].set_index("metric")
    heads = [" ".join(filter(None, head)) for head in found.heads]
    assert row[heads.index("PSNR dB")].value == f"{mine.loc['psnr', 'median']:.1f}"
    for head, metric, decimals in (("SSIM", "ssim", 3), ("HaarPSI", "haarpsi", 3)):
        low, middle, high = (f"{mine.loc[metric, name]:.{decimals}f}" for name in ("q1", "median", "q3"))
        assert row[heads.index(head)]._replace(sign="").text == f"{middle} ({low}–{high})"


def test_means_over_seeds_have_their_intervals_and_ends() -> None:
    tables, paper = of_every_kind()["repeated"]
    found = sheet(paper, "repeats")
    mean = tables["repeats"].query("model == 'vgg16' and quantity == 'auc'").iloc[0]
    row = next(row for row in found.rows if [cell.text for cell in row[:2]] == ["no attack", "AUC"])
    written = [cell.text for cell in row[3:]]
    assert written == [
        "3", "0", f"{mean['mean']:.3f} ({mean['low']:.3f}–{mean['high']:.3f})", f"{mean['minimum']:.3g}",
        f"{mean['maximum']:.3g}",
    ]  # fmt: skip
    shares = [row for row in found.rows if row[1].text == "specificity, %"]
    assert {row[-1].text for row in shares} == {"100"}  # a hundred, not one


@pytest.mark.parametrize(
    ("value", "written"), [(100.0, "100"), (1000.0, "1000"), (0.1, "0.1"), (20.0, "20"), (0, "0"), (1e-4, "0.0001")]
)
def test_significant_digits(value: float, written: str) -> None:
    assert dose(value) == written


# --- how they are written -------------------------------------------------------------------------------------


def test_markdown_and_csv_have_the_same_cells(paper: Paper) -> None:
    found = sheet(paper, "epsilon50")
    rows = list(csv.reader(io.StringIO(comma_separated(found))))
    assert rows[1:] == [[cell.text for cell in row] for row in found.rows]
    lines = markdown(found).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == rows[1]
    assert lines[1].startswith("| :--")
    assert lines[-1] == found.caption


def test_a_key_is_written_once_and_decimals_are_aligned() -> None:
    table = pd.DataFrame(
        {"model": ["vgg16", "vgg16", "x"], "preset": ["pgd", "bim", "bim"],
         "epsilon": [0.5, 0.003, 0.003], "share": [0.5, 0.051, 1.0],
         "share_low": [0.4, 0.01, 0.9], "share_high": [0.6, 0.1, 1.0]}
    )  # fmt: skip
    spec = PaperTable(
        keys=(Field("Model", "model", "model"), Field("Attack", "preset", "attack")),
        numbers=(Field("Epsilon", "epsilon", "epsilon"), Field("Share", "share", "percent", "share")),
        interval="its range",
    )
    (found,) = sheets("t", spec, table, "A table.")
    assert found.caption == "A table. In brackets: its range."
    body = [line for line in latex(found).splitlines() if line.endswith(r"\tabularnewline") and "Model" not in line]
    assert body[0].startswith(r"VGG16 & PGD & 0.5\phantom{00} & 50.0 & (40--60)")
    assert body[1].startswith(r" & BIM & 0.003 & 5.1 & (1--10)")  # right-aligned, one decimal each
    assert body[2].startswith(r"x & BIM & 0.003 & 100.0 & (90--100)")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b & 5 % {#1}", r"a\_b \& 5 \% \{\#1\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^$<>", r"\textasciitilde{}\^{}\$$<$$>$"),
        ("Ångström", "Ångström"),
        ("中\x00", "[U+4E2D][U+0000]"),
        ("10⁻³ m²", "10$^{-3}$ m$^{2}$"),
    ],
)
def test_latex_is_escaped(text: str, written: str) -> None:
    assert escape(text) == written


def test_raised_digits_in_long_words_are_escaped_too() -> None:
    assert breakable("epsilon50, 10⁻³") == "epsilon50, 10$^{-3}$" + r"\allowbreak{}"


def test_widths_are_those_of_computer_modern() -> None:
    assert width_pt("0" * 10) == pytest.approx(50.0, rel=0.01)  # a digit is half an em of 10 pt


# --- LaTeX sets them within their width -----------------------------------------------------------------------


def compiled(folder: Path, files: Sequence[tuple[str, str]], *, width: float) -> str:
    """Return LaTeX's log of all of these files in a column of that width."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("needs LaTeX: apt-get install texlive-latex-base")
    for name, text in files:
        if name == "all.tex":
            text = text.replace(r"\begin{document}", rf"\textwidth={width:.2f}pt\begin{{document}}")
        (folder / name).write_text(text, encoding="utf-8")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=True)
    return (folder / "all.log").read_text(encoding="latin-1")


@pytest.mark.parametrize("width", ["121mm", "88mm"])
@pytest.mark.parametrize("kind", EVERY)
def test_no_table_is_wider_than_it_may_be(kind: str, tmp_path: Path, width: str) -> None:
    points = parse_length(width, name="width", least_mm=60)
    _, paper = of_every_kind()[kind]
    log = compiled(tmp_path, list(write(paper, "latex", width=points)), width=points)
    assert "Overfull" not in log
    assert "Float too large" not in log


def test_the_verdict_on_an_attack_is_not_on_what_a_change_does_beside_it() -> None:
    tables, _ = of_every_kind()["everyday"]
    marked = tables["equal_visibility"].assign(evaluation="UNRELIABLE", beyond=[True, False, False, False, False])
    (made,) = sheets("equal_visibility", PAPER["equal_visibility"], marked, "A caption.")
    heads = [head[-1] for head in made.heads]
    assert {head for row in made.rows for head, cell in zip(heads, row, strict=True) if cell.sign} == {"it, %"}
    epsilons = column(made, "Epsilon")
    assert epsilons[0].startswith("> ")
    assert not any(each.startswith(">") for each in epsilons[1:])


def test_long_names_are_wrapped_and_many_columns_become_several_tables(tmp_path: Path) -> None:
    long = [
        "a_very_long_name_of_a_network+median+jpeg:75+bit_depth:4 of the second ward",
        "x" * 60,
        "Ünïcode & 100 % {}",
    ]
    entry = Entry("83.3", "55–95", "†")
    rows = [[Entry(long[row % 3]), Entry(long[(row + 1) % 3]), *[entry] * 14] for row in range(70)]
    heads = [("", "Model"), ("", "Attack"), *(("Group", f"column {place}") for place in range(14))]
    wide = Sheet("wide", "A caption.", heads, [True, True, *[False] * 14], rows, 2)
    text = latex(wide)
    assert text.count(r"\begin{table}") > 2
    assert text.count("83.3") == 70 * 14  # nothing is lost
    log = compiled(tmp_path, [("wide.tex", text), ("all.tex", document(["wide"]))], width=345.0)
    assert "Overfull" not in log
    assert "Float too large" not in log


def test_a_run_keeps_the_same_tables(
    run: Responses, tables: dict[str, pd.DataFrame], paper: Paper, tmp_path: Path
) -> None:
    with names.of(run.meta):
        write_tables(tables, tmp_path)
    files = {file.stem for file in tmp_path.glob("*.tex")}
    assert files
    assert files.isdisjoint(paper.left_out)
    assert {each.name for each in paper.sheets} >= files  # here one sheet a table
    assert {file.stem for file in tmp_path.glob("*.csv")} == set(tables)
    texts = [(f"{name}.tex", (tmp_path / f"{name}.tex").read_text(encoding="utf-8")) for name in sorted(files)]
    log = compiled(tmp_path, [*texts, ("all.tex", document(sorted(files)))], width=345.0)
    assert "Overfull" not in log


def test_without_latex_the_files_are_written(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    files = dict(write(paper, "latex"))
    assert set(files) == {f"{each.name}.tex" for each in paper.sheets} | {"all.tex"}
    assert all("usepackage" not in text for text in files.values())


# --- lengths and figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "points"), [("1in", POINTS_PER_INCH), ("25.4 mm", POINTS_PER_INCH), ("345pt", 345), ("10cm", 284.53)]
)
def test_lengths(text: str, points: float) -> None:
    assert parse_length(text, name="width", least_mm=20) == pytest.approx(points, abs=0.01)


@pytest.mark.parametrize("text", ["0", "0mm", "-5mm", "88", "wide", "1e3mm", "2000mm", "nanmm", "8 8mm"])
def test_what_is_no_width_is_one_sentence(text: str) -> None:
    with pytest.raises(DosimeterError, match=r"width must be .*Try 88mm"):
        parse_length(text, name="width", least_mm=20)


def drawn() -> Figure:
    figure = Figure(figsize=(5.8, 3), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1])
    ax.set_title("a title of some length above the axes", loc="left")
    return figure


def test_a_figure_has_its_width_its_type_and_real_text(tmp_path: Path) -> None:
    width = parse_length("88mm", name="width", least_mm=20)
    for kind in ("pdf", "svg", "png"):
        assert save(drawn, tmp_path / f"a.{kind}", Look(width, size=7.0)) == 7.0
    svg = (tmp_path / "a.svg").read_text()
    assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) == pytest.approx(88 / 25.4 * 72, abs=0.1)  # type: ignore[index]
    pixels = (tmp_path / "a.png").read_bytes()[16:20]
    assert int.from_bytes(pixels, "big") == pytest.approx(88 / 25.4 * 300, abs=1)


def test_words_that_would_meet_are_set_smaller(tmp_path: Path) -> None:
    def crowded() -> Figure:
        figure = Figure(figsize=(5.8, 3), layout="constrained")
        figure.subplots().set_xticks(range(6), [f"category {place}" for place in range(6)])
        return figure

    assert not is_crowded(drawn())
    width = parse_length("88mm", name="width", least_mm=20)
    assert save(crowded, tmp_path / "a.svg", Look(width, size=9.0)) < 9.0
    assert save(crowded, tmp_path / "b.svg", Look(2 * width, size=9.0)) == 9.0


def wordy() -> Figure:
    """Two axes whose titles, ticks and legend are each wider than a column has room for."""
    figure = Figure(figsize=(5.8, 3), layout="constrained")
    for ax in figure.subplots(1, 2):
        ax.set_title("a title that is much longer than its axes ▲", loc="left")
        ax.plot([0, 1], [0, 1], label="a series of a classifier whose name goes on\n▲ CAUTION: and on, and on, and on")
        ax.set_xticks(np.linspace(0, 1, 6), [f"{place:.4f}" for place in range(6)])
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def test_a_narrow_figure_keeps_every_word_at_six_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []

    def savefig(figure: Figure, file: Path, **_: object) -> None:
        kept.append(figure)
        file.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)
    size = save(wordy, tmp_path / "a.png", Look(parse_length("88mm", name="width", least_mm=20)))
    (figure,) = kept
    assert size >= 6
    assert not is_crowded(figure)
    shown = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]
    assert min(float(text.get_fontsize()) for text in shown) >= 6
    said = " ".join(" ".join(text.get_text().split()) for text in figure.legends[0].get_texts())
    assert said.count("a series of a classifier whose name goes on ▲ CAUTION: and on, and on, and on") == 2


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (Look(250, font="DejaVu Sams"), "Did you mean DejaVu Sans"),
        (Look(250, size=2), "from 5 to 24"),
        (Look(250, size=np.nan), "from 5 to 24"),
    ],
)
def test_a_font_must_be_there_and_readable(look: Look, said: str) -> None:
    with pytest.raises(DosimeterError, match=said):
        check_look(look)


# --- methods --------------------------------------------------------------------------------------------------


def test_the_paragraph_is_made_of_the_runs_facts(run: Responses) -> None:
    with names.of(run.meta):
        said = methods.paragraph(Quoted(run))
    card = run.meta["cohorts"][0]
    for fact in (
        *(
            "VGG16 and Inception-v3",
            run.meta["run_id"],
            card["sha256"][:12],
            f"seed {card['seed']}",
            f"{card['n_test']} tested",
        ),
        *(
            "PGD",
            "0.001, 0.003, 0.009, 0.08",
            "Wilson",
            f"torch {run.meta['environment']['torch']}",
            "UNRELIABLE",
            "PASS",
        ),
    ):
        assert fact in said, fact
    assert "None" not in said
    assert "nan" not in said


def test_phantoms_are_said_to_be_phantoms() -> None:
    run = responses(phantom=True, models=("vgg16",), presets=("sound",))
    with names.of(run.meta):
        assert methods.paragraph(Quoted(run)).startswith("PHANTOM DATA")
        assert "PHANTOM DATA" in for_paper(run, ["clean_metrics"]).sheets[0].caption


def test_bibtex_names_the_software_the_study_and_the_attacks(run: Responses) -> None:
    sources = {"PGD": "Madry et al. 2018, arXiv 1706.06083; Bengio et al. 2013, arXiv 1308.3432", "noise": "control"}
    text = methods.bibtex(run.meta, sources)
    assert re.findall(r"@(\w+)\{([\w.]+),", text) == [
        *(("software", "dosimeter"), ("article", "pal2021vulnerability")),
        *(("misc", "arxiv1706.06083"), ("misc", "arxiv1308.3432")),
    ]
    assert text.count("{") == text.count("}")
    assert methods.attacks_of(run.frame) == ["fgsm", "pgd", "random_sign"]


def test_what_is_cited_is_what_the_citation_file_says() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {dosimeter.__version__}" in text
    for value in (methods.AUTHORS, methods.ARTICLE["title"], methods.ARTICLE["doi"], methods.ARTICLE["pages"]):
        assert value in text
