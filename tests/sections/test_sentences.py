"""What a report may say and may not, for runs that contrast: a sentence stands where its fact does, and there alone."""

import html as entities
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from figure_captions import caption_of
from reader_study import make_study_folder
from response_factory import make_responses

from dosimeter.analysis import names, paper
from dosimeter.analysis.claims import claim
from dosimeter.analysis.findings import findings
from dosimeter.analysis.verdict import verdict
from dosimeter.readers.psychometric import Curve
from dosimeter.readers.results import results
from dosimeter.readers.simulate import simulate
from dosimeter.readers.store import Store
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables
from dosimeter.report.figures import FigureFile, captioned, write_figures
from dosimeter.report.html import render
from dosimeter.report.methods import paragraph
from dosimeter.report.paper import of_tables
from dosimeter.report.quoted import Quoted
from dosimeter.report.summary import summarise
from dosimeter.sections.attacks.figures import class_flip_curves, security_curves
from dosimeter.sections.attacks.sentences import attack_sentences
from dosimeter.sections.figures.curves import accuracy_curves

EPSILONS = (0.0, 1e-3, 3e-3, 8e-3, 9e-3, 0.08)
SMALL: dict[str, Any] = {"epsilons": EPSILONS, "n_cases": 8, "error_row": False, "refine": False}
OTHERS: dict[str, dict[str, Any]] = {
    "phantoms": {"cohorts": {"phantom-xray": "xray", "phantom-ct": "ct"}, "phantom": True},
    "own images": {"cohorts": {"folder:scans": "xray"}},
    "children": {"cohorts": {"xray-268-child": "xray"}},
    "another network": {"cohorts": {"xray-268": "xray"}, "models": ("resnet18",)},
}


class Said:
    """A run, its tables, and the words of its page, figures and captions among them."""

    def __init__(self, run: Responses, folder: Path | None = None) -> None:
        self.run, self.tables = run, build_tables(run)
        self.figures: list[FigureFile] = write_figures(run, self.tables, folder) if folder else []

    @cached_property
    def html(self) -> str:
        return render(self.run, self.tables, self.figures)

    @cached_property
    def text(self) -> str:
        body = re.sub(r"<(style|title)>.*?</\1>", " ", self.html, flags=re.DOTALL)
        return " ".join(entities.unescape(re.sub(r"<[^>]*>", " ", body)).split())

    def caption(self, subject: str, **shown: Any) -> str:
        first = self.run.meta["cohorts"][0]
        return caption_of(subject, self.tables, cohort=first["cohort"], **shown)

    def __contains__(self, words: str) -> bool:
        return words in self.text


def said(folder: Path | None = None, **settings: Any) -> Said:
    """Return what is said of a run; figures are drawn only into a `folder`."""
    return Said(make_responses(**{**SMALL, **settings}), folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The paper's X-rays and its two networks under FGSM alone."""
    return said(tmp_path_factory.mktemp("study"), cohorts={"xray-268": "xray"})


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """A run that the paper does not speak of."""
    return said(tmp_path_factory.mktemp("other"), **OTHERS[request.param])


# --- the paper


def test_the_paper_is_spoken_of_where_it_is_the_subject(study: Said) -> None:
    for words in (
        "What the paper says, and what this run shows",
        "(table 4)",
        "(table 5)",
        "In the paper it is figure 7.",
        "published",
    ):
        assert words in study, words
    assert "repeated and extended" in study
    assert "The paper gives neither its split nor its trained weights nor the list of its X-ray images." in study


def test_the_paper_is_left_out_where_it_is_not(other: Said) -> None:
    for words in (
        *("the paper says", "the paper’s claims", "(table 4)", "(table 5)", "(table 8)", "In the paper it is figure"),
        *(
            "published values",
            "Shaded columns",
            "beside tables 2 and 3",
            "repeated and extended",
            "The paper validated",
        ),
        *("The paper gives", "“Visible”", "the paper calls visible", "the paper’s statistic", "paper’s visible"),
    ):
        assert words not in other, words
    assert 'id="claims"' not in other.html
    assert 'class="published"' not in other.html
    assert findings(other.run, other.tables) == []
    assert summarise(other.run, other.tables)["findings"] == []
    assert "on other images than the paper’s" in other or "resnet18" in other


def test_published_numbers_are_in_tables_of_the_papers_cohorts_alone(study: Said, other: Said) -> None:
    columns = {"confusion": "paper_tp", "fgsm_accuracy": "paper_accuracy", "probability_drop": "paper_decrease"}
    for name, column in columns.items():
        assert other.tables[name][column].isna().all()
        assert study.tables[name][column].notna().any()


def test_a_run_of_two_cohorts_has_published_numbers_beside_the_papers_own() -> None:
    both = said(cohorts={"xray-268": "xray", "phantom-xray": "xray"}, phantom=True)
    curves = both.tables["fgsm_accuracy"]
    assert set(curves.loc[curves["paper_accuracy"].notna(), "cohort"]) == {"xray-268"}
    assert "Accuracy against epsilon (table 4): xray-268" in both
    assert "Accuracy against epsilon: phantom-xray" in both
    assert "of its cohorts phantom-xray is not one" in both
    assert {finding.scope.split(",")[0] for finding in findings(both.run, both.tables)} == {"xray-268"}


def test_what_the_paper_says_is_paraphrased_with_its_place(study: Said) -> None:
    section = study.html[study.html.index('<section id="claims"') : study.html.index('<section id="provenance"')]
    assert not set("“”\"'") & set(re.sub(r"<[^>]*>", "", section).replace("&#39;", ""))
    found = findings(study.run, study.tables)
    assert len(found) > 4
    for each in found:
        assert re.search(r"\b(table|section|sections) \d", each.source)
        assert entities.escape(each.claim) in section
        assert f"The paper, {each.source}." in section


@pytest.mark.parametrize(
    ("cohort", "model", "words", "source"),
    [
        ("xray-268", "inception_v3", "freezes at 55.56 %, from epsilon 0.007 on", "section 3.2, tables 4 and 5"),
        ("covid-ct", "inception_v3", "freezes at 21.33 %, from epsilon 0.003 on", "section 3.4, tables 8 and 9"),
        ("covid-ct", "vgg16", "is not told", "table 8"),  # the paper finds VGG16 robust nowhere
    ],
)
def test_what_the_paper_makes_of_a_frozen_accuracy(cohort: str, model: str, words: str, source: str) -> None:
    found = claim("zero_gradient", cohort, model, frozen=True)
    assert found is not None
    assert words in found.text
    assert found.source == source


def test_only_ct_and_inception_v3_are_called_unusable_below_half_a_level() -> None:
    texts = {
        (cohort, model): claim("rounded_away", cohort, model) for cohort in paper.COHORTS for model in paper.MODELS
    }
    assert {key for key, found in texts.items() if found and "unusable" in found.text} == {("covid-ct", "inception_v3")}
    unusable = texts["covid-ct", "inception_v3"]
    assert unusable is not None
    assert "0.0007 leaves Inception-v3 an accuracy of 40.0 %" in unusable.text


def test_what_the_paper_says_of_x_rays_is_not_said_of_ct() -> None:
    assert claim("no_untouched_test_set", "xray-268") is not None
    assert claim("no_untouched_test_set", "covid-ct") is None
    assert claim("small_test_set", "folder:x") is None
    for cohort, n in (("xray-268", 54), ("covid-ct", 150)):
        found = claim("small_test_set", cohort)
        assert found is not None
        assert f"{n} test images" in found.text


# --- attacks


@pytest.mark.slow  # the pages of four runs with attacks
def test_attacks_are_named_as_they_ran(study: Said) -> None:
    for words in ("Beside it ran", "no gradient", "random noise", "worst case"):
        assert words not in study, words
    assert "FGSM is one step by an attacker who knows the network and the true label." in study
    cases: list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
        (("pgd",), ("Beside it ran PGD.",), ("no gradient", "random noise", "scores", "are controls")),
        (("random_sign",), ("there is random noise: random sign.",), ("Beside it ran", "no gradient", "worst case is")),
        (("pgd", "square", "uniform_noise"), ("Beside it ran PGD and Square. Square needs no gradient.",
          "random noise: uniform noise.", "Square its scores", "FGSM and PGD the network's gradients"),
         ("decisions",)),
        (("pgd", "universal"), ("universal: that of its training images",), ("its scores",)),
    ]  # fmt: skip
    for attacks, there, absent in cases:
        page = said(cohorts={"xray-268": "xray"}, models=("vgg16",), presets=("sound",), attacks=attacks)
        for words in there:
            assert words in page, (attacks, words)
        for words in absent:
            assert words not in page.text.partition("Can these numbers be trusted")[0], (attacks, words)
            assert words not in page.caption("security"), (attacks, words)


def test_images_of_another_network_are_spoken_of_where_there_are_some() -> None:
    moved = said(cohorts={"phantom-xray": "xray"}, presets=("sound",), attacks=("pgd",), transfers=("pgd",))
    assert "Images made on one network were also shown to another." in moved


# --- what is drawn


def labels(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_legend_has_an_interval_only_where_a_band_is(study: Said) -> None:
    page = said(cohorts={"xray-268": "xray"}, models=("vgg16",), attacks=("pgd", "random_sign"))
    robust = page.tables["robust_accuracy"]
    assert "95 % interval" in labels(security_curves(robust))
    assert "95 % band, whole curve" in labels(security_curves(robust))
    assert not any("band" in label for label in labels(security_curves(robust.assign(band_low=float("nan")))))
    assert "95 % interval" not in labels(security_curves(robust[robust["preset"].isin(["pgd", "random_sign"])]))
    assert "95 % interval" not in labels(security_curves(robust.assign(ci_low=float("nan"))))
    curves = study.tables["fgsm_accuracy"]
    assert "95 % interval, each epsilon alone" in labels(accuracy_curves(curves))
    nothing = dict.fromkeys(("ci_low", "band_low"), float("nan"))
    assert not any("95 %" in label for label in labels(accuracy_curves(curves.assign(**nothing))))
    flips = page.tables["class_flips"]
    assert any("the worst case over them" in label for label in labels(class_flip_curves(flips, ("a", "b"))))
    single = flips[flips["preset"] == "pgd"]
    assert not any("thick" in label for label in labels(class_flip_curves(single, ("a", "b"))))
    no_band = class_flip_curves(single.assign(share_low=float("nan")), ("a", "b"))
    assert "95 % interval" not in labels(no_band)


def test_a_caption_tells_what_is_drawn(study: Said) -> None:
    assert "Diamonds are the published values." in study.caption("accuracy")
    assert "half a grey level" in study.caption("accuracy")
    assert "gradient is zero everywhere (shaded)" in study.caption("unchanged")
    large = said(cohorts={"phantom-xray": "xray"}, models=("vgg16",), presets=("sound",), epsilons=(0.0, 0.01, 0.08))
    assert "half a grey level" not in large.caption("accuracy")
    assert "Diamonds" not in large.caption("accuracy")
    assert "shaded" not in large.caption("unchanged")
    assert "the paper" not in large.caption("pictures")


def test_half_a_level_is_named_on_an_axis_that_has_its_line(study: Said) -> None:
    curves = study.tables["fgsm_accuracy"]
    for grid, there in ((EPSILONS, True), ((0.0, 0.003, 0.08), False)):
        figure = accuracy_curves(curves[curves["epsilon"].isin(grid)])
        assert any("dotted line" in ax.get_xlabel() for ax in figure.axes) == there


# --- readers


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What readers answered of the sound preset on VGG16; the store calls them simulated."""
    folder = tmp_path_factory.mktemp("asked") / "study"
    design = make_study_folder(folder, n_images=6, epsilons=(0.004, 0.02, 0.06),
                               curve={"cohort": "xray-268", "protocol": "paper", "seed": 0, "model": "vgg16",
                                      "preset": "sound"})  # fmt: skip
    store = Store(folder, design)
    simulate(store, curve=Curve.through(0.015, width=0.6, lapse=0.02), n_readers=3)
    found = results(design, store)
    store.close()
    return found


@pytest.mark.parametrize("simulated", [True, False])
def test_readers_are_claimed_where_people_answered(simulated: bool, asked: dict[str, Any], study: Said) -> None:
    none = "Whether anyone could see these perturbations was not measured with readers."
    assert study.text.count(none) == 2  # the verdict and the limits
    page = Said(Responses(study.run.frame, {**study.run.meta, "readers": [{**asked, "simulated": simulated}]}))
    measured = (
        "measured with readers of these alone: FGSM, sound preset on VGG16, xray-268 (paper protocol): 3 readers."
    )
    assert page.text.count(none) == (2 if simulated else 0)
    assert page.text.count(measured) == (0 if simulated else 2)
    assert verdict(page.run, page.tables)[-1].endswith(none if simulated else measured)
    assert ("Nobody looked at an image" in page.caption("readers", study=page.run.meta["readers"][0])) == simulated


# --- what is missing


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda frame: frame["label"] == 1, id="one class"),
        pytest.param(lambda frame: frame["model"] == "vgg16", id="one network"),
    ],
)
def test_what_a_run_lacks_is_not_spoken_of(study: Said, keep: Any) -> None:
    page = Said(Responses(study.run.frame[keep(study.run.frame)], study.run.meta))
    one_class = page.run.frame["label"].nunique() == 1
    assert ("with one class there is no curve" in page.caption("roc")) == one_class
    assert ("the most fragile network first" in page) == (page.run.frame["model"].nunique() > 1)
    assert ("The published table 3" in page) == (page.run.frame["model"].nunique() > 1)


def test_one_network_is_one_and_attacks_that_leave_as_little_are_named_together() -> None:
    made = said(cohorts={"phantom-xray": "xray"}, models=("vgg16",), attacks=("pgd", "square"))
    assert "A network that classifies images was trained, and its test images were perturbed" in made
    table = made.tables["robust_accuracy"]

    def words(*strongest: str) -> str:
        left = table["accuracy"].where(table["role"] != "attack", 0.5).mask(table["preset"].isin(strongest), 0.25)
        return attack_sentences({**made.tables, "robust_accuracy": table.assign(accuracy=left)}, made.run.meta)[0]

    assert "over 3 attacks leaves" in words()
    assert re.search(r"; every single attack leaves 50.0 %", words())
    assert "the strongest single attacks are FGSM, sound preset and PGD, which leave 25.0 %" in words("sound", "pgd")
    assert "the strongest single attack is PGD, which leaves 25.0 %" in words("pgd")


@pytest.mark.parametrize("asked", [{"target": "opacity"}, {"mask": "eb5bc517b378"}])
def test_what_attackers_were_held_to_is_said_in_the_verdict(asked: dict[str, str]) -> None:
    run = make_responses(cohorts={"phantom-xray": "xray"}, models=("vgg16",), **SMALL)
    told = Said(Responses(run.frame, {**run.meta, "config": {**run.meta.get("config", {}), **asked}}))
    assert ("were to have images answered as opacity; images of that class were not attacked" in told) == (
        "target" in asked
    )
    assert ("Only pixels inside a mask were attacked" in told) == ("mask" in asked)


def test_patients_are_spoken_of_as_they_are_known(study: Said) -> None:
    assert "may share a patient" in study
    unknown = said(cohorts={"folder:x": ""}, patients=False)
    assert "No image of folder:x has a patient id" in unknown
    assert "it is not known how many in folder:x" in unknown
    official = said(cohorts={"folder:x": ""}, protocols=("official",))
    assert "may share a patient" not in official


def test_groups_of_near_duplicates_are_not_called_patients() -> None:
    run = make_responses(cohorts={"folder:x": ""}, models=("vgg16",), protocols=("patient",), attacks=("pgd",))
    groups = "near duplicates are grouped together: 2 pairs of near duplicates, 9 groups"
    cards = [card | {"provenance": card["provenance"] | {"groups": groups}} for card in run.meta["cohorts"]]
    grouped = Responses(run.frame, {**run.meta, "cohorts": cards})
    told = Said(grouped)
    for words in (
        "intervals by group",
        "“By group” means that images of one group count for less than as many groups",
        "Images that near duplicates connect, or the same patient where that is known, are one group.",
        f"folder:x: {groups}.",
        "Images of one group tell less than as many groups",
        "about 80:20 by group",
    ):
        assert words in told, words
    glossary = "`patient` by patient"
    spoken = told.text.replace(glossary, "")
    assert not re.findall(r".{0,40}(?:by|each|another) patient\b|.{0,40}[Pp]atients (?:have|are|who)", spoken)
    methods = paragraph(Quoted(grouped))
    assert "Wilson intervals by group" in methods
    assert "by patient" not in methods


# --- notes under the tables of attacks


@pytest.mark.slow  # the pages of three runs
def test_notes_tell_of_what_is_in_their_tables() -> None:
    full = said(cohorts={"phantom-xray": "xray"}, attacks=("pgd", "universal", "random_sign"), transfers=("pgd",))
    bare = said(cohorts={"phantom-xray": "xray"}, models=("vgg16",), presets=("sound",), attacks=("random_sign",))
    for words in (
        *(
            "The worst case counts",
            "not controls, images made on another model, the published",
            "A universal perturbation was learned before",
        ),
        *("also of stored images", "It gives transferred images a section", "A control is no attack"),
    ):
        assert words in full, words
        assert words not in bare or words in ("also of stored images", "A control is no attack"), words
    assert "An attack of another library" not in full
    assert "Obuchowski" in bare
    alone = said(cohorts={"phantom-xray": "xray"}, models=("vgg16",), patients=False)
    assert "Obuchowski" not in alone
    assert "DeLong" in alone or "Newcombe" in alone


# --- no image answered rightly


def test_where_no_answer_was_right_nothing_is_said_of_what_broke() -> None:
    run = make_responses(
        **SMALL, cohorts={"mine": "xray"}, models=("resnet18",), protocols=("whole",), visibility=True, exemplars=False
    )
    right = run.frame.loc[(run.frame["epsilon"] == 0) & run.frame["correct"], "case_id"]
    none = Said(replace(run, frame=run.frame[~run.frame["case_id"].isin(right)]))
    assert "There was no right answer to attack." in none
    assert "none, as no image is classified correctly without attack" in none
    for words in ("more fragile than this", "of 1 correctly", "flips at least half of the 0", "band is empty"):
        assert words not in none, words
    assert not any(name.endswith("-drop") for name, *_ in captioned(none.run, none.tables))


# --- patients


def test_intervals_are_by_patient_where_any_image_has_a_patient_id() -> None:
    few: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "models": ("vgg16",), "n_cases": 16, "exemplars": False}
    named, unnamed = (said(patients=patients, attacks=("pgd",), **few) for patients in (True, False))
    assert "Wilson intervals by patient" in named
    assert "“By patient” means" in named
    assert "has a patient id" not in named
    assert "by patient" not in unnamed.text.lower().replace("`patient` by patient", "")
    assert "No image of xray-268 has a patient id: images are taken as independent." in unnamed
    for each, known in ((named, True), (unnamed, False)):
        with names.of(each.run.meta):
            texts = [
                paragraph(Quoted(each.run)),
                " ".join(caption for _, _, caption, _ in captioned(each.run, each.tables)),
                " ".join(sheet.caption for sheet in of_tables(each.tables, each.run).sheets),
            ]
        assert ["by patient" in text for text in texts] == [known] * 3


def test_a_cohort_of_which_some_images_have_a_patient_id_is_said_to_have_some() -> None:
    run = make_responses(**{**SMALL, "cohorts": {"xray-268": "xray"}, "models": ("vgg16",), "n_cases": 16})
    run.frame.loc[run.frame["case_id"] == run.frame["case_id"].iloc[0], "patient_id"] = None
    some = Said(run)
    assert "Not every image of xray-268 has a patient id" in some
    assert "“By patient” means" in some
