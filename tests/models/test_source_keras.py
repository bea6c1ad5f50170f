"""Keras files: what Keras itself answers, as logits, with gradients; and no code of theirs runs."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import write_card

from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring
from dosimeter.models.sources import keras as source
from dosimeter.models.sources.keras import import_keras
from dosimeter.record.model_card import checked

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("h5py")
pytest.importorskip("keras")
THREE = ["clear", "opacity", "effusion"]


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


def model_of(keras: Any, *, units: int = 3, activation: str | None = "softmax", shape: Any = (16, 20, 3)) -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(units, activation=activation),
        ]
    )


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize(
    ("activation", "outputs", "units"),
    [
        ("softmax", "probabilities", 3),
        ("sigmoid", "one probability", 1),
        ("sigmoid", "findings", 3),
        (None, "logits", 3),
    ],
)
def test_a_file_answers_as_keras_does_with_logits(
    keras: Any, tmp_path: Path, suffix: str, activation: str | None, outputs: str, units: int
) -> None:
    model = model_of(keras, units=units, activation=activation)
    model.save(tmp_path / f"a.{suffix}")
    facts = {"source": "keras", "weights": f"a.{suffix}", "outputs": outputs}
    classes = THREE if units == 3 else ["clear", "opacity"]
    classifier = bring(write_card(tmp_path, **facts, classes=classes))
    images = torch.rand(4, 3, 16, 20, requires_grad=True)
    wanted = torch.from_numpy(model.predict(images.detach().permute(0, 2, 3, 1).numpy(), verbose=0))
    logits = classifier(images)
    found = {
        "probabilities": lambda: logits.softmax(dim=1),
        "one probability": lambda: logits.softmax(dim=1)[:, 1:],
        "findings": logits.sigmoid,
        "logits": lambda: logits,
    }[outputs]()
    torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-4)
    assert classifier.size_px == (16, 20)
    assert float(torch.autograd.grad(logits.sum(), images)[0].abs().sum()) > 0
    assert classifier.train(True)(images).equal(classifier.train(False)(images))  # a dropout that stays off
    assert ("left out" in classifier.card["weights"]["note"]) == (activation is not None)


def small_vgg(keras: Any, *between: Any) -> Any:
    """Blocks of convolutions with a pool behind each, an average over the map, two dense layers: VGG16's form."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    inputs = images = keras.Input((32, 32, 3))
    for block, (depth, width) in enumerate(((2, 4), (2, 6), (3, 8))):
        for place in range(depth):
            images = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv{place}")(
                images
            )
        images = layers.MaxPooling2D(name=f"block{block}_pool")(images)
    for layer in between:
        images = layer(images)
    dense = layers.Dense(8, activation="relu")(layers.GlobalAveragePooling2D()(images))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(dense))


def test_a_vgg_answers_alike_from_either_form(keras: Any, tmp_path: Path) -> None:
    model = small_vgg(keras)
    images = torch.rand(3, 3, 32, 32)
    shares = torch.from_numpy(model.predict(images.permute(0, 2, 3, 1).numpy(), verbose=0))
    found = []
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"vgg.{suffix}")
        facts = {"source": "keras", "weights": f"vgg.{suffix}", "outputs": "probabilities"}
        found.append(bring(write_card(tmp_path, **facts, classes=["clear", "opacity"]))(images).detach())
    torch.testing.assert_close(found[0].softmax(dim=1), shares, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[1], found[0], atol=0, rtol=0)
    assert float(found[0].std()) > 1e-3  # answers that differ can be compared


@pytest.mark.parametrize("module", ["__main__", "theirs"])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_layer_that_keras_does_not_know_is_one_sentence(keras: Any, tmp_path: Path, suffix: str, module: str) -> None:
    class Doubled(keras.layers.Layer):  # type: ignore[name-defined, misc]
        def call(self, images: Any) -> Any:
            return images * 2

    Doubled.__module__ = module
    small_vgg(keras, Doubled()).save(tmp_path / f"a.{suffix}")
    facts = {"source": "keras", "weights": f"a.{suffix}", "outputs": "probabilities"}
    with pytest.raises(DosimeterError, match="must hold Keras's own layers alone, got Doubled ") as caught:
        bring(write_card(tmp_path, **facts, classes=["clear", "opacity"]))
    assert "\n" not in str(caught.value)


def test_what_prepares_images_within_the_file_is_told(keras: Any, tmp_path: Path) -> None:
    model_of(keras).save(tmp_path / "a.keras")
    facts = {"name": "a", "source": "keras", "weights": str(tmp_path / "a.keras"), "classes": THREE}
    brought = source.load(checked(facts | {"outputs": "probabilities"}, "card"))
    assert brought.hints == ("Within the file images are multiplied by 2.0 and -1.0 is added.",)


def test_an_identity_is_the_file_s(keras: Any, tmp_path: Path) -> None:
    model_of(keras).save(tmp_path / "a.keras")
    card = write_card(tmp_path, source="keras", weights="a.keras", classes=THREE, outputs="probabilities")
    first = bring(card).fingerprint
    assert bring(card).fingerprint == first
    model = model_of(keras)
    model.layers[-1].kernel.assign(model.layers[-1].kernel + 0.5)
    model.save(tmp_path / "a.keras")
    assert bring(card).fingerprint != first


def test_a_softmax_layer_of_its_own_and_a_model_within_are_found(keras: Any, tmp_path: Path) -> None:
    inner = model_of(keras, activation=None)
    model = keras.Sequential([inner, keras.layers.Softmax()])
    model.save(tmp_path / "a.keras")
    facts = {"source": "keras", "weights": "a.keras", "classes": THREE, "outputs": "probabilities"}
    images = torch.rand(2, 3, 16, 20)
    wanted = torch.from_numpy(inner.predict(images.permute(0, 2, 3, 1).numpy(), verbose=0))
    torch.testing.assert_close(bring(write_card(tmp_path, **facts))(images), wanted, atol=1e-5, rtol=1e-4)
    nested = keras.Sequential([keras.Input((16, 20, 3)), model_of(keras)])
    nested.save(tmp_path / "a.keras")
    classifier = bring(write_card(tmp_path, **facts))
    shares = torch.from_numpy(nested.predict(images.permute(0, 2, 3, 1).numpy(), verbose=0))
    torch.testing.assert_close(classifier(images).softmax(dim=1), shares, atol=1e-5, rtol=1e-4)


def test_a_grey_file_gets_the_mean_of_the_planes(keras: Any, tmp_path: Path) -> None:
    model = model_of(keras, shape=(16, 16, 1), activation=None)
    model.save(tmp_path / "a.keras")
    card = write_card(tmp_path, source="keras", weights="a.keras", classes=THREE, channels=1)
    images = torch.rand(2, 3, 16, 16)
    wanted = torch.from_numpy(model.predict(images.mean(dim=1)[..., None].numpy(), verbose=0))
    torch.testing.assert_close(bring(card)(images), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outputs": "logits"}, "says outputs 'logits', but its file ends in a softmax: say probabilities"),
        ({"outputs": "findings"}, "ends in a softmax"),
        ({"classes": ["a", "b"]}, "says 2 outputs .* its network gives 3"),
        ({"channels": 1}, "says channels 1, its file 3"),
        ({"size_px": 16}, r"says size_px 16, its file \[16, 20\]"),
        ({"weights": "gone.keras"}, "must name its weights, a .keras or .h5 file"),
        ({"weights": "b.keras"}, "b.keras cannot be read as a Keras file"),
        ({"weights": "w.h5"}, "holds weights without their model"),
    ],
)
def test_what_the_file_contradicts_is_one_sentence(
    keras: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model_of(keras).save(tmp_path / "a.keras")
    (tmp_path / "b.keras").write_bytes(b"no model")
    model_of(keras).save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "w.weights.h5").rename(tmp_path / "w.h5")
    facts = {"source": "keras", "weights": "a.keras", "classes": THREE, "outputs": "probabilities"}
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(write_card(tmp_path, **(facts | changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["keras", "h5", "h5 and zip"])
def test_a_lambda_does_not_run(keras: Any, tmp_path: Path, form: str) -> None:
    suffix = form.partition(" ")[0]
    ran = tmp_path / "ran"
    place = str(ran)
    inputs = keras.Input((16, 20, 3))
    touched = keras.layers.Lambda(lambda images: (Path(place).touch(), images)[1])(inputs)
    keras.Model(inputs, model_of(keras)(touched)).save(tmp_path / f"a.{suffix}")
    ran.unlink(missing_ok=True)
    said = "must hold Keras's own layers alone, got (__lambda__|Lambda)"
    if form == "h5 and zip":  # an innocent archive behind the HDF5 that Keras would read
        with zipfile.ZipFile(tmp_path / "a.h5", "a") as archive:
            archive.writestr("config.json", "{}")
        said = "a.h5 must be HDF5 alone, but a zip archive is in it too"
    facts = {"source": "keras", "weights": f"a.{suffix}", "classes": THREE, "outputs": "probabilities"}
    with pytest.raises(DosimeterError, match=said):
        bring(write_card(tmp_path, **facts))
    assert not ran.exists()


def test_a_class_of_another_package_is_not_built(keras: Any, tmp_path: Path) -> None:
    model_of(keras).save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(files["config.json"])
    layers = described["config"]["layers"]
    layers[1] |= {"module": "os", "class_name": "system", "config": {"command": f"touch {tmp_path / 'ran'}"}}
    facts = {"source": "keras", "weights": "b.keras", "classes": THREE, "outputs": "probabilities"}
    for compression, said in (
        (zipfile.ZIP_STORED, "got system of os, whose code would run"),
        (zipfile.ZIP_DEFLATED, "it is compressed. Save it with model.save"),
    ):
        with zipfile.ZipFile(tmp_path / "b.keras", "w", compression) as archive:
            for name, content in (files | {"config.json": json.dumps(described).encode()}).items():
                archive.writestr(name, content)
        with pytest.raises(DosimeterError, match=said):
            bring(write_card(tmp_path, **facts))
    assert not (tmp_path / "ran").exists()
    assert np.isfinite(model_of(keras).predict(np.zeros((1, 16, 20, 3)), verbose=0)).all()
