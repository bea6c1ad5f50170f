"""Local folders of Hugging Face: the answers of the network itself, its processor's images, and no code of theirs."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card, write_image
from PIL import Image

from dosimeter.cohorts.grids import Grid
from dosimeter.cohorts.images import read_image
from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring
from dosimeter.models.sources.huggingface import how_of

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

PROCESSORS: dict[str, dict[str, Any]] = {
    "squashed": {"size": {"height": 32, "width": 32}, "resample": 3},
    "cropped": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
    "stretched": {"size": {"height": 40, "width": 40}, "crop_size": 32, "do_center_crop": True},
    "raw": {
        "size": {"height": 32, "width": 32},
        "do_rescale": False,
        "image_mean": [120.0] * 3,
        "image_std": [60.0] * 3,
    },
    "plain": {"size": {"height": 32, "width": 32}, "do_normalize": False},
}
GRIDS = {
    "squashed": Grid(32, 32, interpolation="bicubic"),
    "cropped": Grid(32, 32, "crop", crop_pct=32 / 36),
    "stretched": Grid(32, 32, crop_pct=0.8),
    "raw": Grid(32, 32),
    "plain": Grid(32, 32),
}


def save(folder: Path, processor: str = "squashed", **config: Any) -> Any:
    """Write a tiny vision transformer with random weights, as save_pretrained does; return it."""
    torch.manual_seed(0)
    small = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    named = {"id2label": {0: "clear", 1: "opacity"}, "label2id": {"clear": 0, "opacity": 1}}
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(**(small | named | {"intermediate_size": 32} | config))
    ).eval()
    network.save_pretrained(folder)
    kinds = {"cropped": "CLIPImageProcessor", "stretched": "DeiTImageProcessor"}
    kind = getattr(transformers, kinds.get(processor, "ViTImageProcessor"))
    kind(**({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 2} | PROCESSORS[processor])
         ).save_pretrained(folder)  # fmt: skip
    return network


def card(here: Path, **changes: Any) -> Path:
    return write_card(here, **({"source": "huggingface", "weights": "net", "mean": None, "std": None} | changes))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_folder_answers_as_it_does_by_itself(tmp_path: Path, processor: str) -> None:
    network = save(tmp_path / "net", processor)
    path = write_image(tmp_path / "a.png", height=100, width=140, colour=True)
    classifier = bring(card(tmp_path))
    assert classifier.grid == GRIDS[processor]
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "net")
    wanted = theirs(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]
    prepared = torch.from_numpy(classifier.grid.put(read_image(path)))[None]
    own = classifier.preprocessing
    level = own.scale / 255 / torch.tensor(own.std).view(3, 1, 1)
    assert ((own.apply(prepared) - wanted).abs() / level).max() <= 1.01  # one grey level, where theirs is rounded
    with torch.inference_mode():
        torch.testing.assert_close(classifier(prepared), network(pixel_values=own.apply(prepared)).logits)
    assert classifier.fingerprint == bring(card(tmp_path)).fingerprint


def test_several_labels_are_findings(tmp_path: Path) -> None:
    save(tmp_path / "net", problem_type="multi_label_classification")
    assert bring(card(tmp_path, outputs="findings")).findings is not None
    with pytest.raises(DosimeterError, match="problem_type 'multi_label_classification': say findings"):
        bring(card(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["opacity", "clear"]}, r"says classes \['opacity', 'clear'\], its file \['clear', 'opacity'\]"),
        ({"channels": 1}, "says channels 1, its file 3"),
        ({"size_px": 64}, "says size_px 64, its file 32"),
        ({"weights": "gone"}, "must name its weights, a folder beside it with config.json"),
    ],
)
def test_what_the_folder_contradicts_is_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    save(tmp_path / "net")
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_resize_that_no_grid_has_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "net")
    file = tmp_path / "net" / "preprocessor_config.json"
    images = json.loads(file.read_text())
    file.write_text(json.dumps(images | {"size": {"shortest_edge": 32}}))
    with pytest.raises(DosimeterError, match=r"says size .* say size_px and resize in the card"):
        bring(card(tmp_path))
    assert bring(card(tmp_path, size_px=32, resize="crop")).grid == Grid(32, 32, "crop", "bicubic")
    file.write_text(json.dumps(images | {"resample": 5}))
    with pytest.raises(DosimeterError, match=r"says resample 5, .* say interpolation"):
        bring(card(tmp_path))
    sizes: list[dict[str, Any]] = [
        {"height": "a", "width": 32},
        {"height": 32, "width": 10**9},
        {"height": 0, "width": 1},
    ]
    values = {"image_mean": [None] * 3}, {"rescale_factor": "b"}
    for broken in (*({"size": size} for size in sizes), *values):
        file.write_text(json.dumps(images | broken))
        with pytest.raises(DosimeterError, match=r"preprocessor_config.json (of net cannot be understood|must take)"):
            bring(card(tmp_path))
    file.write_text("[1]")
    with pytest.raises(DosimeterError, match="must be a JSON object, got list"):
        bring(card(tmp_path))
    file.unlink()
    with pytest.raises(DosimeterError, match="must say size_px and mean and std"):
        bring(card(tmp_path))


def test_no_code_of_the_folder_runs(tmp_path: Path) -> None:
    save(tmp_path / "net")
    folder = tmp_path / "net"
    config = json.loads((folder / "config.json").read_text())
    (folder / "mine.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    maps = {"AutoConfig": "mine.Config", "AutoModelForImageClassification": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": maps, "model_type": "mine"}))
    with pytest.raises(DosimeterError, match="net cannot be read without code of its own"):
        bring(card(tmp_path))
    (folder / "config.json").write_text(json.dumps(config))

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DosimeterError, match="net cannot be read"):
        bring(card(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_tensors_that_are_missing_are_not_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(tmp_path / "net")
    file = tmp_path / "net" / "model.safetensors"
    tensors = {name: value for name, value in load_file(file).items() if not name.startswith("classifier")}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(DosimeterError, match=r"has no tensors for classifier.bias, classifier.weight: they would be"):
        bring(card(tmp_path))


def test_offsets_and_odd_factors_are_part_of_the_normalisation() -> None:
    images = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False, "do_resize": False}
    how = how_of(images, Path("net"), None)
    assert how == {"scale": 2.0, "mean": (1.0,), "std": (1.0,)}
