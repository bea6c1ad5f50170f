"""The report: self-contained, escaped, in order, honest about phantoms and gaps; summary.json and redrawing."""

import base64
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from pages import SMALL, Page, digests, write_responses
from PIL import Image
from response_factory import make_responses

import dosimeter.report
from dosimeter import registry
from dosimeter.errors import DosimeterError
from dosimeter.presentation import numbers
from dosimeter.presentation.section import Rows, Section
from dosimeter.record import table as responses
from dosimeter.record.table import Responses
from dosimeter.report import redraw, summarise
from dosimeter.report.build import build_tables
from dosimeter.report.figures import FigureFile
from dosimeter.report.html import MAX_BYTES, embed, render
from dosimeter.sections.tables.views import all_tables

Tables = dict[str, pd.DataFrame]

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(**SMALL)


@pytest.fixture(scope="module")
def tables(run: Responses) -> Tables:
    return build_tables(run)


@pytest.fixture(scope="module")
def plain(run: Responses, tables: Tables) -> str:
    """The page of a run that has nothing special but one failed image."""
    return render(run, tables, [])


@pytest.fixture(scope="module")
def folder(run: Responses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    only = run.frame["model"] == "inception_v3"
    write_responses(Responses(run.frame[only], run.meta), folder)
    redraw(folder)
    return folder


def page_of(run: Responses, tables: Tables, **changes: Any) -> str:
    return render(Responses(run.frame, {**run.meta, **changes}), tables, [])


def test_redraw_writes_everything_from_the_table_alone(folder: Path) -> None:
    names = set(digests(folder))
    assert {"report.html", "summary.json", "tables/fgsm_accuracy.csv", "tables/fgsm_accuracy.tex"} <= names
    assert "figures/xray-268-paper-fig07-accuracy.svg" in names
    assert "figures/xray-268-paper-fig07-accuracy.png" in names
    assert not list(folder.glob(".redraw-*"))


@pytest.mark.usefixtures("drawn")
def test_redrawing_replaces_what_is_there_and_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    drawn = responses.read(folder / "responses.parquet")
    exemplars = [each for each in drawn.meta["exemplars"] if each["preset"] == "sound"]
    sound = drawn.frame[drawn.frame["preset"] == "sound"]
    write_responses(Responses(sound, drawn.meta | {"exemplars": exemplars}), run)
    redraw(run)
    before = digests(run)
    summary = json.loads((run / "summary.json").read_text())
    summary["files"] += ["figures/stale.png", "tables/stale/x.csv", "../kept.png", "figures/..", "figures/gone.svg", 7]
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "figures" / "stale.png").write_bytes(b"")  # of an older drawing
    mine = (
        tmp_path / "kept.png",
        run / "tables" / "mine.csv",
        run / "tables" / "stale" / "x.csv",
        run / "figures" / "a",
    )
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    redraw(run)
    assert all(file.read_text() == "mine" for file in mine)
    assert {name: sha for name, sha in digests(run).items() if run / name not in mine} == before


@pytest.mark.parametrize(
    "name",
    [
        "tables/a.csv",
        "report.html",
        pytest.param("figures/a.png", marks=pytest.mark.slow),  # as tables; each draws two reports
        pytest.param("summary.json", marks=pytest.mark.slow),
    ],
)
def test_what_dosimeter_did_not_write_is_not_replaced(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(folder / "responses.parquet", tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    before = digests(tmp_path)
    with pytest.raises(DosimeterError, match="folder of its own"):
        redraw(tmp_path)
    assert digests(tmp_path) == before
    (tmp_path / name).unlink()
    redraw(tmp_path)
    redraw(tmp_path)  # that is dosimeter's now
    assert digests(tmp_path) == digests(folder)


def test_a_failed_redraw_leaves_the_old_report(run: Responses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_responses(run, tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "old.csv").write_text("old")
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "summary.json").write_text('{"run_id": "run", "dosimeter_version": "0.1.0"}')

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(dosimeter.report, "write_figures", fail)
    with pytest.raises(OSError, match="disk is full"):
        redraw(tmp_path)
    assert set(digests(tmp_path)) == {"responses.parquet", "tables/old.csv", "report.html", "summary.json"}
    assert (tmp_path / "report.html").read_text() == "old"


def test_redraw_of_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(DosimeterError, match=r"responses.parquet does not exist"):
        redraw(tmp_path)


def test_the_report_is_self_contained_and_accessible(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    assert len(html.encode()) < MAX_BYTES
    page = Page(html)
    assert page.open == []  # every tag is closed
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    images = page.all("img")
    assert len(images) == 9  # the first screen's among them
    for image in images:
        assert str(image["src"]).startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
        assert "xray-268, paper protocol" in str(image["alt"])
    policy = [tag["content"] for tag in page.all("meta") if "http-equiv" in tag]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r"""(?:url\(|@import|\bon\w+=|(?:src|href)=["']?https?:)""", html)
    anchors = {str(link["href"]).removeprefix("#") for link in page.all("a")}
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert anchors == {"answer", "done", "verdict", "tables", "figures", "storage", "claims", "provenance", "limits"}
    assert anchors <= set(identifiers)
    assert len(set(identifiers)) == len(identifiers)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


def test_the_sections_come_in_order(plain: str) -> None:
    places = [plain.index(f'<section id="{name}"') for name in
              ("done", "verdict", "tables", "figures", "claims", "provenance", "limits")]  # fmt: skip
    assert places == sorted(places)
    assert "not a medical device" in plain
    assert "not measured with readers" in plain
    assert "complian" not in plain


def test_every_text_is_escaped() -> None:
    settings = {**SMALL, "cohorts": {HOSTILE: "xray"}, "presets": ("sound",)}
    run = make_responses(**settings, attacks=("pgd", "random_sign"), transfers=("pgd",))
    meta = json.loads(json.dumps(run.meta).replace("COVID-19", HOSTILE).replace("dosimeter study", HOSTILE))
    meta["classifiers"][0]["weights"] |= {"note": HOSTILE, "name": HOSTILE, "stand_in": True}
    meta |= {"incomplete": [HOSTILE], "run_id": HOSTILE}
    meta["environment"]["cpu"] = HOSTILE
    frame = run.frame.assign(error=run.frame["error"].replace("the image is truncated", HOSTILE))
    hostile = Responses(frame, meta | {"phantom": True})
    html = render(hostile, build_tables(hostile), [])
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert Page(html).open == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phantom": True}, "<strong>Phantom data</strong>"),
        ({"incomplete": ["vgg16: no weights."]}, "<strong>Incomplete</strong>"),
    ],
)
def test_banners_appear_only_when_they_apply(
    run: Responses, tables: Tables, plain: str, changes: dict[str, Any], said: str
) -> None:
    assert said not in plain
    html = page_of(run, tables, **changes)
    assert html.index(said) < html.index("<nav")


def test_failed_images_and_stand_in_weights_are_declared(run: Responses, tables: Tables, plain: str) -> None:
    assert "1 image: the image is truncated" in plain
    assert "Stand-in weights" not in plain
    cards = json.loads(json.dumps(run.meta["classifiers"]))
    cards[0]["weights"]["stand_in"] = True
    assert "<strong>Stand-in weights</strong> VGG16 ran on" in page_of(run, tables, classifiers=cards)


def test_the_accuracy_table_stands_beside_the_papers(tables: Tables) -> None:
    views = list(all_tables(tables, [("xray-268", "paper")]))
    (view,) = [view for view in views if view.caption.startswith("Accuracy against epsilon (table 4)")]
    assert view.caption.endswith("xray-268, paper protocol, 8 test images")
    assert [(head.text, head.span) for head in view.head[0]][2:] == [("VGG16", 4), ("Inception-v3", 4)]
    width = sum(head.span for head in view.head[0])
    assert all(len(row) == width for row in view.rows)
    row = next(row for row in view.rows if row[0].text == "0.003")
    assert row[1].text == "0.765"
    assert (row[5].text, row[5].kind) == ("74.1 %", "published")
    curve = tables["fgsm_accuracy"].query(
        "model == 'vgg16' and preset == 'paper' and storage == 'float' and epsilon == 0.003"
    )
    n = int(curve["correct"].iloc[0])
    assert row[2].text == f"{100 * n / 8:.1f} %"
    assert row[2].note.startswith(f"{n}; ")
    zero = [cell.text for cell in view.rows[0]]
    assert zero[0] == "zero gradient"
    assert zero[6] == "50.0 %"  # Inception-v3, paper preset: 4 of 8 saturated


def test_every_table_names_its_cohort_and_protocol(tables: Tables) -> None:
    for view in all_tables(tables, []):
        rows = " ".join(cell.text for row in view.rows for cell in row)
        assert "xray-268" in view.caption + rows
        assert "paper" in view.caption + rows


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda frame: frame["status"] == "error", id="only errors"),
        pytest.param(lambda frame: frame["label"] == 1, id="one class"),
        pytest.param(lambda frame: frame["epsilon"] == 0, id="no attack"),
        pytest.param(lambda frame: frame["storage"] == "png8", id="only 8 bit"),
        pytest.param(lambda frame: frame["preset"] == "paper", id="only the paper's preset"),
        pytest.param(lambda frame: frame["case_id"].isna(), id="nothing"),
    ],
)
def test_a_poor_table_still_gives_a_report_and_a_summary(run: Responses, keep: Any) -> None:
    poor = Responses(run.frame[keep(run.frame)], run.meta)
    tables = build_tables(poor)
    assert Page(render(poor, tables, [])).open == []
    json.dumps(summarise(poor, tables), allow_nan=False)


def test_the_summary_has_the_tables_numbers_and_no_nan(folder: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    summary = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    assert summary["schema_version"] == 1
    assert (summary["status"], summary["n_failed"]) == ("complete", 0)
    (result,) = summary["results"]
    clean = pd.read_csv(folder / "tables" / "clean_metrics.csv").iloc[0]
    assert result["model"] == "inception_v3"
    assert result["accuracy"] == pytest.approx(
        {"value": clean["accuracy"], "low": clean["accuracy_low"], "high": clean["accuracy_high"]}
    )
    attacks = {(attack["preset"], attack["storage"]): attack for attack in result["attacks"]}
    assert set(attacks) == {("paper", "float"), ("sound", "float"), ("sound", "png8")}
    assert attacks["paper", "float"]["grad_zero_share"] == 0.5
    assert attacks["paper", "float"]["epsilon50"]["value"] is None  # most images were never perturbed
    assert attacks["paper", "float"]["epsilon50"]["censored"] is True
    medians = pd.read_csv(folder / "tables" / "epsilon50.csv").query("preset == 'sound' and storage == 'float'")
    assert attacks["sound", "float"]["epsilon50"]["value"] == pytest.approx(medians["epsilon50"].iloc[0])
    assert summary["findings"][0].keys() >= {"key", "scope", "claim", "statement"}


def test_an_incomplete_run_is_summarised_as_such(run: Responses, tables: Tables) -> None:
    failed = summarise(run, tables)
    assert (failed["status"], failed["n_failed"]) == ("incomplete", 1)
    meta = {**run.meta, "incomplete": ["vgg16: no weights."]}
    whole = run.frame[run.frame["status"] == "ok"]
    missing = summarise(Responses(whole, meta), build_tables(Responses(whole, meta)))
    assert (missing["status"], missing["incomplete"]) == ("incomplete", ["vgg16: no weights."])


def figure_of(folder: Path, name: str, size: int) -> FigureFile:
    rng = np.random.default_rng(size)
    pixels = np.repeat(rng.integers(0, 2, (size, size, 1), dtype=np.uint8) * 255, 3, axis=2)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    Image.fromarray(pixels).save(png)
    svg.write_text("<svg" + 10 * size * size * " " + "/>")
    return FigureFile(name, name, "", "c", "p", svg, png)


def test_embedding_takes_the_smaller_file_and_keeps_its_limit(tmp_path: Path) -> None:
    figures = [figure_of(tmp_path, name, size) for name, size in (("small", 40), ("large", 200))]
    figures[0].path_svg.write_text("<svg/>")
    small, large = embed(figures)
    assert small.source == "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()
    assert large.source is not None
    assert large.source.startswith("data:image/png;base64,")
    limit = len(large.source) - 1  # now lossless WebP has to do
    squeezed = embed(figures, limit=limit)[1].source
    assert squeezed is not None
    assert squeezed.startswith("data:image/webp;base64,")
    content = base64.b64decode(squeezed.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image, Image.open(figures[1].path_png) as original:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(original))
    left = embed(figures, limit=2000)
    assert left[1].source is None
    assert left[0].source is not None


def test_a_figure_left_out_is_named(
    run: Responses, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dosimeter.report.html.embed", lambda figures: embed(figures, limit=10))
    html = render(run, tables, [figure_of(tmp_path, "large", 100)])
    assert '<a href="figures/large.png">' in html


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.percent(0.875), "87.5 %"),
        (numbers.percent(float("nan")), "–"),
        (numbers.percent(pd.NA), "–"),
        (numbers.percent_range(0.1, 0.25), "10.0–25.0"),
        (numbers.percent_range(None, 0.25), ""),
        (numbers.decimal_range(-0.1, 0.25), "-0.100 to 0.250"),
        (numbers.dose(0.0001), "0.0001"),
        (numbers.dose(1.234e-5), "0.0000123"),
        (numbers.dose(0.0), "0"),
        (numbers.dose(0.1 * 255), "25.5"),
        (numbers.dose(255), "255"),
        (numbers.dose(None), "–"),
        (numbers.seconds(4.2), "4.2 s"),
        (numbers.seconds(185), "3 min 05 s"),
        (numbers.moment("2026-01-01T01:00:00+01:00"), "2026-01-01 00:00 UTC"),
        (numbers.count(pd.NA), "–"),
    ],
)
def test_numbers_are_written(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [("asked", ["cohort"], "columns cohort and protocol"), ("other", ["cohort", "protocol"], "must have a caption")],
)
def test_a_section_whose_table_cannot_be_placed_is_named(
    name: str, columns: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(Section):
        captions: ClassVar = {"asked": "Images asked."}

        def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
            return {name: pd.DataFrame(columns=columns)}

    monkeypatch.setitem(registry.ADDED, ("sections", "mine"), Mine())
    with pytest.raises(DosimeterError, match=f"section mine: its table '{name}' {said if 'must' in said else 'must'}"):
        build_tables(make_responses(n_cases=4, cohorts={"xray-268": "xray"}))
