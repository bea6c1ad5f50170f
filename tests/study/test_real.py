"""The study's spine on real images and real weights, small enough for CI."""

from pathlib import Path

import pytest
import torch

import dosimeter as dm
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import WeightsUnavailable

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["vgg16", "inception_v3"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    import os

    if not os.environ.get("DOSIMETER_DATA"):
        pytest.skip("DOSIMETER_DATA is not set")
    halves = dm.split(dm.load_cohort("xray-268", limit=40), "paper", seed=0)
    try:
        weights = dm.load_weights(request.param)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    features = tmp_path_factory.mktemp("features")
    classifier = dm.fit(request.param, halves, weights=weights, options=FitOptions(epochs=10), features=features)
    return halves, classifier


def test_the_classifier_learns_and_reloads_bit_by_bit(study, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    halves, classifier = study
    history = classifier.card["history"]
    assert history[-1]["train_accuracy"] > 0.8
    dm.save_classifier(classifier, tmp_path)
    image = classifier.prepare(halves.test[0])[None]
    assert torch.equal(classifier(image), dm.load_classifier(tmp_path)(image))


def test_png8_restores_the_clean_answer_below_half_a_grey_level(study) -> None:  # type: ignore[no-untyped-def]
    halves, classifier = study
    cases = halves.test.subset(range(3))
    frame = dm.sweep(classifier, cases, epsilons=[0.001, 0.0019, 0.003], storages=["float", "png8"]).frame
    assert (frame.status == "ok").all()
    stored = frame[(frame.storage == "png8") & frame.on_grid]
    for _, case in stored.groupby("case_id"):
        answers = {row.epsilon: tuple(row.logits) for row in case.itertuples()}
        assert answers[0.001] == answers[0.0019] == answers[0.0]
        assert answers[0.003] != answers[0.0]
    floats = frame[(frame.storage == "float") & frame.on_grid]
    assert not floats[floats.epsilon > 0].unchanged.any()
    assert floats[floats.epsilon == 0.003].linf.max() == pytest.approx(0.003, rel=1e-3)


@pytest.mark.parametrize("study", ["vgg16"], indirect=True)
def test_files_of_two_real_images_keep_large_doses_and_lose_small_ones(study) -> None:  # type: ignore[no-untyped-def]
    halves, classifier = study
    modes = ["float", "png8", "png16", "jpeg95", "jpeg75", "dicom12", "dicom16", "dicom-mono1", "ct-hu"]
    cases = halves.test.subset(range(2))
    frame = dm.sweep(classifier, cases, epsilons=[1e-4, 0.009], storages=modes, refine=False).frame
    assert (frame.status == "ok").all()
    assert len(frame) == 2 * 3 * len(modes)
    linf = frame.groupby(["storage", "epsilon"]).linf.max().unstack()
    levels = {"png8": 255, "dicom12": 4095, "dicom-mono1": 4095, "dicom16": 65535, "ct-hu": 1500}
    for storage, steps in levels.items():
        assert abs(linf.loc[storage, 0.009] - 0.009) <= 1 / steps + 1e-6, storage
        assert linf.loc[storage, 0.0] <= 0.5 / steps + 1e-6
    assert frame[(frame.storage == "png8") & (frame.epsilon == 1e-4)].unchanged.all()
    assert not frame[(frame.storage == "dicom16") & (frame.epsilon == 1e-4)].unchanged.any()
    both = frame[frame.storage.isin(["dicom12", "dicom-mono1"])].pivot(
        index=["case_id", "epsilon"], columns="storage", values="logits"
    )
    assert both["dicom12"].map(tuple).equals(both["dicom-mono1"].map(tuple))
