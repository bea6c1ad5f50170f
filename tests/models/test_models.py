import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from greys import cohort
from tiny import SIZE_PX, tiny_backbone, tiny_weights

import dosimeter as dm
from dosimeter.cohorts.split import Split
from dosimeter.models.backbones import HeadSpec, build_base, build_head, get_backbone
from dosimeter.models.features import FeatureStore, load_batch
from dosimeter.models.fit import assemble, recipe
from dosimeter.models.training import FitOptions
from dosimeter.parallel import torch_threads

pytestmark = pytest.mark.usefixtures("tiny_networks")


@pytest.fixture
def halves() -> Split:
    return dm.split(dm.load_cohort("phantom-xray", limit=20), "paper", seed=0)


# --- networks ---------------------------------------------------------------------------------------------------


def layers(head: torch.nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in head]


@pytest.mark.parametrize(
    ("name", "pool", "inputs", "hidden", "dropout"),
    [("vgg16", "whole", 512, 64, 0.5), ("vgg16", 4, 512, 64, 0.5), ("inception_v3", "none", 51200, 1024, 0.4)],
)
def test_heads_are_the_paper_s(
    monkeypatch: pytest.MonkeyPatch, name: str, pool: str | int, inputs: int, hidden: int, dropout: float
) -> None:
    monkeypatch.undo()
    backbone = get_backbone(name)
    spec = backbone.head if isinstance(pool, str) else replace(backbone.head, pool=pool)
    assert spec.pool == pool
    head = build_head(backbone, spec, n_classes=2, generator=torch.Generator())
    first, last = (layer for layer in head if isinstance(layer, torch.nn.Linear))
    assert (first.in_features, first.out_features, last.out_features) == (inputs, hidden, 2)
    assert next(layer.p for layer in head if isinstance(layer, torch.nn.Dropout)) == dropout
    assert head(torch.zeros(3, *backbone.map_shape)).shape == (3, 2)


@pytest.mark.parametrize("name", ["vgg16", "inception_v3"])
def test_bases_give_the_maps_they_declare(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.undo()
    backbone = get_backbone(name)
    with torch.device("meta"):
        base = backbone.build().eval()
        assert base(torch.empty(1, 3, backbone.size_px, backbone.size_px)).shape[1:] == backbone.map_shape


def test_a_window_that_does_not_fit_and_an_unknown_model_are_named() -> None:
    backbone = tiny_backbone("vgg16")
    with pytest.raises(dm.DosimeterError, match="1 to 7 cells"):
        build_head(backbone, HeadSpec(8, 4, 0.1), n_classes=2, generator=torch.Generator())
    with pytest.raises(dm.DosimeterError, match="Did you mean 'vgg16'"):
        get_backbone("vgg61")


def test_the_base_is_frozen_and_in_evaluation_mode() -> None:
    base = build_base(tiny_backbone("vgg16"), tiny_weights("vgg16").state)
    assert not any(module.training for module in base.modules())
    assert not any(parameter.requires_grad for parameter in base.parameters())


# --- features ---------------------------------------------------------------------------------------------------


def test_the_base_runs_once_per_image(halves: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights("vgg16")
    classifier = assemble(
        get_backbone("vgg16"), weights, HeadSpec("whole", 4, 0.0), classes="ab", generator=torch.Generator()
    )
    passes = []
    monkeypatch.setattr(
        classifier, "features", lambda images: passes.append(1) or type(classifier).features(classifier, images)
    )
    store = FeatureStore(classifier, base_sha256=weights.sha256, folder=tmp_path)
    first = store.compute(halves.train)
    again = FeatureStore(classifier, base_sha256=weights.sha256, folder=tmp_path).compute(halves.train)
    assert first == again
    assert len(passes) == len(halves.train)
    expected = classifier.features(torch.stack([classifier.prepare(case) for case in halves.train]))
    torch.testing.assert_close(load_batch(first), expected, rtol=1e-5, atol=1e-5)


def test_parts_of_a_cohort_begin_at_places_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights("vgg16")
    spec = HeadSpec("whole", 4, 0.0)
    classifier = assemble(get_backbone("vgg16"), weights, spec, classes="ab", generator=torch.Generator())
    read: list[str] = []
    prepare = type(classifier).prepare
    monkeypatch.setattr(classifier, "prepare", lambda case: read.append(case.case_id) or prepare(classifier, case))
    store = FeatureStore(classifier, base_sha256=weights.sha256, folder=tmp_path)
    firsts = set()
    for n in range(8, 16):
        part = cohort(n)
        read.clear()
        with torch_threads(1):
            paths = store.compute(part)
        ids = [record.case_id for record in part.records]
        firsts.add(first := ids.index(read[0]))
        assert read == ids[first:] + ids[:first]
        maps = classifier.features(torch.stack([prepare(classifier, case) for case in part]))
        torch.testing.assert_close(load_batch(paths), maps, rtol=1e-5, atol=1e-5)
    assert len(firsts) > 2


@pytest.mark.parametrize("change", ["weights", "preprocessing"])
def test_features_of_other_weights_or_preprocessing_are_not_reused(halves: Split, tmp_path: Path, change: str) -> None:
    def paths(weights_sha256: str, preprocessing: str) -> list[Path]:
        weights = tiny_weights("vgg16", preprocessing=preprocessing)
        spec = HeadSpec("whole", 4, 0.0)
        classifier = assemble(get_backbone("vgg16"), weights, spec, classes="ab", generator=torch.Generator())
        return FeatureStore(classifier, base_sha256=weights_sha256, folder=tmp_path).compute(halves.test)

    other = paths("b", "unit") if change == "weights" else paths("a", "caffe")
    assert not set(paths("a", "unit")) & set(other)


# --- training ---------------------------------------------------------------------------------------------------


def test_fit_learns_and_records_every_epoch(halves: Split) -> None:
    calls: list[int] = []
    options = FitOptions(epochs=6, batch_size=4, learning_rate=0.01)
    classifier = dm.fit("vgg16", halves, options=options, advance=calls.append)
    history = classifier.card["history"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert sum(calls) == 20
    assert not any(module.training for module in classifier.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    correct = [int(classifier(classifier.prepare(case)[None]).argmax()) == case.label for case in halves.test]
    assert history[-1]["test_accuracy"] == pytest.approx(np.mean(correct))


def test_the_learning_rate_decays_every_epoch_by_keras_s_rule() -> None:
    assert [FitOptions(epochs=25).rate(epoch) for epoch in (0, 10)] == [1e-3, pytest.approx(1e-3 / (1 + 4e-5 * 10))]
    assert FitOptions(decay=0.5).rate(2) == pytest.approx(5e-4)
    with pytest.raises(dm.DosimeterError, match="epochs must be positive"):
        FitOptions(epochs=0)


def test_same_seed_same_classifier_and_the_global_generator_is_left_alone(halves: Split) -> None:
    options = FitOptions(epochs=2)
    state = torch.random.get_rng_state()
    prints = [dm.fit("inception_v3", halves, seed=seed, options=options).fingerprint for seed in (0, 0, 1)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert prints[0] == prints[1] != prints[2]


def test_a_recipe_follows_everything_that_shapes_the_head(halves: Split) -> None:
    weights, spec, options = tiny_weights("vgg16"), HeadSpec("whole", 4, 0.0), FitOptions()
    other_split = dm.split(dm.load_cohort("phantom-xray", limit=20), "paper", seed=1)
    keys = {
        recipe("vgg16", halves, 0, weights, spec, options),
        recipe("vgg16", halves, 1, weights, spec, options),
        recipe("vgg16", other_split, 0, weights, spec, options),
        recipe("vgg16", halves, 0, tiny_weights("inception_v3"), spec, options),
        recipe("vgg16", halves, 0, tiny_weights("vgg16", preprocessing="unit"), spec, options),
        recipe("vgg16", halves, 0, weights, replace(spec, hidden=5), options),
        recipe("vgg16", halves, 0, weights, spec, replace(options, epochs=3)),
    }
    assert len(keys) == 7


# --- saving -----------------------------------------------------------------------------------------------------


def test_a_saved_classifier_reloads_to_bit_identical_logits(halves: Split, tmp_path: Path) -> None:
    classifier = dm.fit("inception_v3", halves, options=FitOptions(epochs=1))
    dm.save_classifier(classifier, str(tmp_path))
    again = dm.load_classifier(str(tmp_path))
    images = torch.rand(4, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
    assert torch.equal(classifier(images), again(images))
    assert again.name == classifier.name
    card = json.loads((tmp_path / "card.json").read_text())
    assert {"cohort", "protocol", "seed", "weights", "history", "head", "classes", "test_accuracy"} <= set(card)
    assert "phantom-xray" in again._repr_html_()


def test_a_classifier_of_another_preprocessing_reloads_with_it(halves: Split, tmp_path: Path) -> None:
    unit = tiny_weights("vgg16", preprocessing="unit")
    classifier = dm.fit("vgg16", halves, weights=unit, options=FitOptions(epochs=1))
    dm.save_classifier(classifier, tmp_path)
    assert dm.load_classifier(tmp_path).fingerprint == classifier.fingerprint
    with pytest.raises(dm.DosimeterError, match="trained with the preprocessing 'unit'"):
        dm.load_classifier(tmp_path, weights=tiny_weights("vgg16"))


def test_a_feature_map_cut_short_is_computed_again(halves: Split, tmp_path: Path) -> None:
    weights = tiny_weights("vgg16")
    spec = HeadSpec("whole", 4, 0.0)
    classifier = assemble(get_backbone("vgg16"), weights, spec, classes="ab", generator=torch.Generator())
    store = FeatureStore(classifier, base_sha256=weights.sha256, folder=tmp_path)
    paths = store.compute(halves.test)
    expected = load_batch(paths)
    paths[0].write_bytes(paths[0].read_bytes()[:-10])
    assert torch.equal(load_batch(store.compute(halves.test)), expected)


def test_other_weights_damage_and_an_empty_folder_are_refused(halves: Split, tmp_path: Path) -> None:
    dm.save_classifier(dm.fit("vgg16", halves, options=FitOptions(epochs=1)), tmp_path)
    with pytest.raises(dm.DosimeterError, match="--weights vgg16=FILE"):
        dm.load_classifier(tmp_path, weights=tiny_weights("inception_v3"))
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "sha256": "0"}))
    with pytest.raises(dm.DosimeterError, match="damaged"):
        dm.load_classifier(tmp_path)
    with pytest.raises(dm.DosimeterError, match=r"card\.json is missing"):
        dm.load_classifier(tmp_path / "nowhere")


def test_grey_images_fill_three_planes_and_keep_their_grid(halves: Split) -> None:
    classifier = dm.fit("vgg16", halves, options=FitOptions(epochs=1))
    image = classifier.prepare(halves.test[0])
    assert image.shape == (3, SIZE_PX, SIZE_PX)
    assert torch.equal(image[0], image[2])
    torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-4, rtol=0)
