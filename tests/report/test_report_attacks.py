"""The report of a run with attacks: their section, the verdicts on the evaluations, the same bytes each time."""

import re
import shutil
from pathlib import Path

import pytest
from pages import SMALL, Page, digests, write_responses
from response_factory import make_responses

from dosimeter.presentation import numbers
from dosimeter.report import redraw
from dosimeter.report.build import build_tables
from dosimeter.report.html import MAX_BYTES, render
from dosimeter.sections.attacks.page import attack_tables
from dosimeter.sections.attacks.sentences import attack_sentences


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with attacks, transferred images and two seeds."""
    folder = tmp_path_factory.mktemp("attacked")
    run = make_responses(**SMALL, attacks=("pgd", "random_sign"), transfers=("pgd",), repeats=2)
    write_responses(run, folder)
    redraw(folder)
    return folder


def test_a_run_with_attacks_has_their_sections(attacked: Path) -> None:
    html = (attacked / "report.html").read_text()
    page = Page(html)
    assert page.open == []
    names = (
        *("done", "verdict", "trust", "tables", "figures", "storage", "attacks"),
        *("repeats", "claims", "provenance", "limits"),
    )
    places = [html.index(f'<section id="{name}"') for name in names]
    assert places == sorted(places)
    headings = re.findall(r'<h2 id="\w+-h">(\d+)\.', html)
    assert headings == [str(number) for number in range(1, len(names) + 1)]
    assert '<a href="#repeats">section 8</a>' in html
    images = [str(image["alt"]) for image in page.all("img")]
    (security,) = [place for place, alt in enumerate(images) if "Accuracy under every attack" in alt[:60]]
    (accuracy,) = [place for place, alt in enumerate(images) if "Accuracy against epsilon: " in alt[:60]]
    assert [int(re.match(r"Figure (\d+)\.", alt)[1]) for alt in images] == list(range(1, len(images) + 1))
    assert security > accuracy
    assert {"tables/robust_accuracy.csv", "tables/evaluation.csv", "tables/transfer.tex"} <= set(digests(attacked))


@pytest.mark.slow  # two reports with attacks; test_report redraws one without
def test_a_redrawn_run_with_attacks_gives_the_same_bytes(attacked: Path, tmp_path: Path) -> None:
    shutil.copy(attacked / "responses.parquet", tmp_path)
    redraw(tmp_path)
    assert digests(tmp_path) == digests(attacked)


@pytest.mark.slow  # draws 70 figures; those of a study without attacks are drawn in test_report
@pytest.mark.usefixtures("drawn")
def test_a_drawn_run_with_attacks_stays_small_and_gives_the_same_bytes(attacked: Path, tmp_path: Path) -> None:
    runs = (tmp_path / "one", tmp_path / "two")
    for run in runs:
        run.mkdir()
        shutil.copy(attacked / "responses.parquet", run)
        redraw(run)
    assert len((runs[0] / "report.html").read_bytes()) < MAX_BYTES
    assert digests(runs[0]) == digests(runs[1])


def test_the_trust_section_says_each_verdict_in_a_word_and_a_shape(attacked: Path) -> None:
    html = (attacked / "report.html").read_text()
    section = html[html.index('<section id="trust"') : html.index('<section id="tables"')]
    unreliable = '<strong class="mark unreliable"><span aria-hidden="true">✕</span> UNRELIABLE</strong>'
    assert (
        f"{unreliable} <strong>Inception-v3, FGSM as published</strong>; not passed: Gradients are not zero" in section
    )
    assert '<strong class="mark pass"><span aria-hidden="true">✓</span> PASS</strong>' in section
    assert "<dt>Gradients are not zero (Inception-v3, FGSM as published)</dt>" in section
    assert "`" not in section
    assert "<code>sound</code>" in section


def test_attack_tables_and_sentences_are_the_tables_numbers() -> None:
    run = make_responses(**SMALL, attacks=("pgd", "square", "random_sign"), transfers=("pgd",))
    tables = build_tables(run)
    views = list(attack_tables(tables, [("xray-268", "paper")], run.meta))
    captions = [view.caption.partition(":")[0].partition("?")[0] for view in views]
    assert captions == [
        *("Accuracy left by every attack", "Gain over random signs of the same epsilon", "Flips by class, worst case"),
        *("Do the same images fall first", "The images that fall first"),
        *("Images made on one model, answered by another", "What the attacks cost"),
        "What the attacks are in two public catalogues",
    ]
    for view in views:
        assert {len(row) for row in view.rows} == {sum(head.span for head in view.head[0])}
    strength = {row[0].text: row for row in views[0].rows}
    assert list(strength) == [
        *("FGSM, paper preset", "FGSM, sound preset", "PGD", "Square", "random sign", "worst case")
    ]
    robust = tables["robust_accuracy"].query("model == 'vgg16' and preset == 'worst case' and epsilon == 0.003").iloc[0]
    assert strength["worst case"][2].text == numbers.percent(robust["accuracy"])
    sentence = attack_sentences(tables, run.meta)[0]
    assert sentence.startswith(
        "VGG16 on xray-268 (paper protocol): at epsilon 0.003 the worst case over 3 attacks leaves"
    )
    assert f"{robust['accuracy']:.1%}".replace("%", " %") in sentence
    flips = tables["class_flips"].query(
        "model == 'vgg16' and preset == 'worst case' and epsilon == 0.003 and label == 1"
    )
    missed = flips.iloc[0]
    assert ". It turns " in sentence
    assert f"{missed['flipped']} of {missed['n']} correctly answered images of COVID-19 into other" in sentence


def test_a_study_without_attacks_has_a_page_without_them() -> None:
    run = make_responses(**SMALL)
    plain = render(run, build_tables(run), [])
    assert 'id="trust"' not in plain
    assert 'id="attacks"' not in plain
    assert ".mark" not in plain
