"""A classifier that tells labels alone: no AUC and no calibration of made-up logits, and no FGSM that never ran."""

import pandas as pd
from response_factory import make_responses

from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables
from dosimeter.report.html import render
from dosimeter.report.summary import summarise


def run() -> Responses:
    """Scores of one of two models are made up of its labels."""
    made = make_responses(
        cohorts={"xray-268": "xray"}, protocols=("whole",), presets=("sound",), n_cases=20, exemplars=False
    )
    cards = [
        {**card, "head": {"outputs": "labels"}, "history": []} if card["model"] == "vgg16" else card
        for card in made.meta["classifiers"]
    ]
    return Responses(made.frame, {**made.meta, "classifiers": cards})


def test_what_needs_scores_is_left_out_of_labels() -> None:
    tables = build_tables(run())
    clean = tables["clean_metrics"].set_index("model")
    of_scores = ["auc", "auc_low", "auc_high", "auc_method", "brier", "ece"]
    assert clean.loc["vgg16", of_scores].isna().all()
    assert clean.loc["inception_v3", ["auc", "brier", "ece"]].notna().all()
    assert clean["accuracy"].notna().all()
    by_model = {result["model"]: result for result in summarise(run(), tables)["results"]}
    assert by_model["vgg16"]["auc"]["value"] is None
    assert by_model["inception_v3"]["auc"]["value"] is not None


def test_a_page_of_labels_without_fgsm_does_not_speak_of_it() -> None:
    made = run()
    frame = made.frame[made.frame["model"] == "vgg16"]
    frame = frame.assign(preset=pd.Categorical(["hopskipjump"] * len(frame)))
    frame = frame.assign(attack=pd.Categorical(["hopskipjump"] * len(frame)))
    cards = [card for card in made.meta["classifiers"] if card["model"] == "vgg16"]
    alone = Responses(frame, {**made.meta, "classifiers": cards})
    page = render(alone, build_tables(alone), [])
    assert "with the fast gradient sign" not in page
    assert "What ran is HopSkipJump." in page
    assert "Not measured: labels alone have no probability." in page
