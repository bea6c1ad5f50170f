"""Pretrained weights: digests, files, the order of sources, the cache folder."""

import hashlib
import io
import pickle
import struct
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from dosimeter import registry
from dosimeter.cache import cache_dir
from dosimeter.errors import DosimeterError
from dosimeter.models import registries, weights
from dosimeter.models.backbones import get_backbone
from dosimeter.models.weights import (
    WeightsUnavailable,
    digest,
    expected_shapes,
    fetch_weights,
    load_weights,
)


class Tiny(nn.Module):
    """A network with what the real ones have: a base, a counter, a classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.classifier = nn.Linear(2, 5)


def tiny_state(seed=0):
    """The base of `Tiny` with other numbers for every seed."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in expected_shapes("tiny").items()}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """Register a tiny network, an unreachable official file, and a package that holds `tiny_state(1)`."""
    vgg16 = get_backbone("vgg16")
    official = replace(vgg16.official, build=Tiny, url=(tmp_path / "absent-00000000.pth").as_uri())
    backbone = replace(vgg16, name="tiny", official=official)
    monkeypatch.setitem(registry.ADDED, ("backbones", "tiny"), backbone)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    package = replace(get_backbone("inception_v3").package, requirement="tiny==1", sha256=digest(tiny_state(1)))
    monkeypatch.setitem(registry.ADDED, ("backbones", "tiny"), replace(backbone, package=package))
    monkeypatch.setattr(
        weights, "fetch_arrays", lambda package, shapes: {k: v.numpy() for k, v in tiny_state(1).items()}
    )
    return package


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def publish(monkeypatch, folder, state):
    """Make `state` torchvision's official file of the tiny network."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny-official.pth"
    path.write_bytes(buffer.getvalue())
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    tiny = get_backbone("tiny")
    official = replace(tiny.official, url=path.as_uri(), file_sha256=sha256)
    monkeypatch.setitem(registry.ADDED, ("backbones", "tiny"), replace(tiny, official=official))
    return path


# --- digest ---


def test_digest_is_of_sorted_keys_each_followed_by_little_endian_floats():
    expected = hashlib.sha256(b"a" + struct.pack("<3f", 1.0, -2.0, 0.5) + b"b" + struct.pack("<f", 3.0)).hexdigest()
    assert digest({"b": torch.tensor([3.0]), "a": torch.tensor([1.0, -2.0, 0.5])}) == expected


def test_digest_follows_values_and_keys_but_not_memory_layout():
    kernel = torch.arange(24.0).reshape(2, 3, 2, 2)
    reference = digest({"w": kernel})
    assert digest({"w": kernel.to(memory_format=torch.channels_last)}) == reference
    assert digest({"w": kernel.double()}) == reference
    assert digest({"v": kernel}) != reference
    assert digest({"w": kernel.clone().index_fill_(0, torch.tensor(1), 0.0)}) != reference


# --- what the networks expect ---


@pytest.mark.parametrize(("network", "count", "first"), [("vgg16", 26, 64), ("inception_v3", 94 * 5, 32)])
def test_expected_shapes_are_those_of_the_base(network, count, first):
    shapes = expected_shapes(network)
    assert len(shapes) == count
    assert next(iter(shapes.values())) == (first, 3, 3, 3)
    assert not any(part in key for key in shapes for part in ("classifier", "fc", "Aux", "num_batches"))


def test_unknown_network_is_named_with_a_suggestion():
    with pytest.raises(DosimeterError, match=r"model 'vgg-16' is not known\. Did you mean 'vgg16'\?"):
        load_weights("vgg-16")


# --- files ---


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_file_of_a_whole_network_gives_its_base(tmp_path, suffix):
    torch.manual_seed(0)
    whole = Tiny().half().state_dict()
    path = tmp_path / f"mine{suffix}"
    safetensors.torch.save_file(whole, path) if suffix == ".safetensors" else torch.save(whole, path)
    loaded = load_weights("tiny", file=path)
    assert set(loaded.state) == set(expected_shapes("tiny"))
    for key, tensor in loaded.state.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, whole[key].float(), rtol=0, atol=0)
    assert loaded.sha256 == digest(loaded.state)
    assert (loaded.name, loaded.preprocessing.name, loaded.stand_in) == (path.name, "torchvision", False)
    assert str(tmp_path) not in str(loaded.summary())


def test_file_known_by_its_digest_keeps_its_own_preprocessing(tmp_path):
    torch.save(tiny_state(1), tmp_path / "copy.pth")
    loaded = load_weights("tiny", file=tmp_path / "copy.pth")
    assert (loaded.preprocessing.name, loaded.stand_in) == ("minus1to1", True)


def test_preprocessing_can_be_replaced(tmp_path):
    torch.save(tiny_state(), tmp_path / "w.pth")
    assert load_weights("tiny", file=tmp_path / "w.pth", preprocessing="unit").summary()["preprocessing"] == "unit"
    with pytest.raises(DosimeterError, match=r"got 'caffee'\. Did you mean 'caffe'\?"):
        load_weights("tiny", file=tmp_path / "w.pth", preprocessing="caffee")


class Bomb:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.mkdir, (self.path,))


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    proof = tmp_path / "proof"
    payload = {**tiny_state(), "features.0.bias": Bomb(proof)}
    pickle.loads(pickle.dumps(payload))
    assert proof.is_dir()  # the bomb works
    proof.rmdir()
    torch.save(payload, tmp_path / "evil.pth")
    with pytest.raises(DosimeterError, match="must be whole and hold only tensors"):
        load_weights("tiny", file=tmp_path / "evil.pth")
    assert not proof.exists()


def changed(**changes):
    """The tiny base with some entries replaced, or removed where the value is None."""
    merged = {**tiny_state(), **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: changed(features__0__bias=None), "none for 1 of them, first features.0.bias"),
        (lambda: changed(features__9__bias=torch.zeros(2)), "got also features.9.bias"),
        (lambda: changed(features__0__bias=torch.zeros(3)), r"shape \(2,\), got \(3,\)"),
        (lambda: changed(features__0__bias=torch.zeros(2, dtype=torch.int64)), "must be floats"),
        (lambda: changed(features__0__bias=torch.tensor([0.0, torch.nan])), "must be finite"),
        (lambda: {**tiny_state(), "features.0.bias": 1.5}, "got float"),
        (lambda: {**tiny_state(), 7: 1.5}, "got also 7"),
        (dict, "none for 6 of them"),
        (lambda: [1, 2], "must be whole and hold only tensors"),
    ],
)
def test_wrong_contents_are_one_sentence_and_a_remedy(tmp_path, content, message):
    torch.save(content(), tmp_path / "w.pth")
    with pytest.raises(DosimeterError, match=message) as caught:
        load_weights("tiny", file=tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"w{suffix}"
    safetensors.torch.save_file(tiny_state(), path) if suffix == ".safetensors" else torch.save(tiny_state(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DosimeterError, match="must be whole"):
        load_weights("tiny", file=path)


def test_absent_file_and_unknown_suffix(tmp_path):
    with pytest.raises(DosimeterError, match="does not exist"):
        load_weights("tiny", file=tmp_path / "none.pth")
    (tmp_path / "w.h5").touch()
    with pytest.raises(DosimeterError, match=r"must end in .*got '\.h5'"):
        load_weights("tiny", file=tmp_path / "w.h5")


# --- the order of sources ---


def test_package_is_the_last_resort_and_is_cached(cache, monkeypatch):
    first = load_weights("tiny", cache=cache)
    assert first.sha256 == digest(tiny_state(1))
    assert first.stand_in
    monkeypatch.setattr(weights, "fetch_arrays", lambda *_: pytest.fail("fetched twice"))
    again = load_weights("tiny", cache=cache)
    assert again == first
    assert again.summary() == first.summary()
    assert fetch_weights("tiny", cache) == cache / "weights" / "tiny-package.safetensors"
    assert [path.suffix for path in (cache / "weights").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("present", [False, True], ids=["downloaded", "already in torch.hub's folder"])
def test_official_file_comes_before_the_package(tmp_path, cache, monkeypatch, present):
    path = publish(monkeypatch, tmp_path / ("hub/checkpoints" if present else "remote"), tiny_state(2))
    loaded = load_weights("tiny", cache=cache)
    assert (loaded.sha256, loaded.name) == (digest(tiny_state(2)), "torchvision IMAGENET1K_V1")
    path.unlink()
    assert load_weights("tiny", cache=cache) == loaded  # now from the cache


def test_cache_comes_before_the_official_file_and_a_file_before_both(tmp_path, cache, monkeypatch):
    fetch_weights("tiny", cache)
    publish(monkeypatch, tmp_path / "remote", tiny_state(2))
    assert load_weights("tiny", cache=cache).sha256 == digest(tiny_state(1))
    torch.save(tiny_state(3), tmp_path / "mine.pth")
    assert load_weights("tiny", file=tmp_path / "mine.pth", cache=cache).sha256 == digest(tiny_state(3))


@pytest.mark.parametrize("folder", ["remote", "hub/checkpoints"])
def test_official_file_with_a_wrong_hash_is_not_used(tmp_path, cache, monkeypatch, folder):
    path = publish(monkeypatch, tmp_path / folder, tiny_state(2))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert load_weights("tiny", cache=cache).sha256 == digest(tiny_state(1))


def test_nothing_reachable_says_what_was_tried_and_the_remedy(cache, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(weights, "fetch_arrays", registries.fetch_arrays)
    monkeypatch.setattr(registries.shutil, "which", lambda _: None)
    with pytest.raises(WeightsUnavailable) as caught:
        load_weights("tiny", cache=cache)
    for part in ("cache has none", "out of reach", "needs npm", "install Node.js", "--weights tiny=FILE"):
        assert part in str(caught.value)
    assert "offline" not in str(caught.value)  # the reason may hold a path; it is in the log


def test_package_with_other_tensors_is_refused(cache, monkeypatch):
    monkeypatch.setattr(weights, "fetch_arrays", lambda *_: {k: v.numpy() for k, v in tiny_state(4).items()})
    with pytest.raises(DosimeterError, match=r"tensors of tiny==1 must have SHA-256 .*got"):
        fetch_weights("tiny", cache)
    assert not cache.exists()


# --- the cache ---


def flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_last_byte, "must have digest"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "are damaged"),
        (lambda path: path.write_bytes(b""), "are damaged"),
        (lambda path: safetensors.torch.save_file({"x": torch.ones(1)}, path), "must hold all 6 tensors"),
        (lambda path: safetensors.torch.save_file(tiny_state(5), path), "must have digest"),
    ],
)
def test_damaged_cache_is_refused(cache, damage, message):
    load_weights("tiny", cache=cache)
    damage(cache / "weights" / "tiny-package.safetensors")
    with pytest.raises(DosimeterError, match=rf"(?s){message}.*Delete it"):
        load_weights("tiny", cache=cache)


@pytest.mark.parametrize(
    "damage",
    [flip_last_byte, lambda path: path.write_bytes(b""), lambda path: torch.save(tiny_state(5), path)],
    ids=["a bit", "empty", "other weights"],
)
def test_cached_official_file_must_be_the_published_one_byte_for_byte(tmp_path, cache, monkeypatch, damage):
    published = publish(monkeypatch, tmp_path / "remote", tiny_state(2))
    load_weights("tiny", cache=cache)
    damage(cache / "weights" / published.name)
    with pytest.raises(DosimeterError, match=r"(?s)SHA-256 of tiny-official.pth must be [0-9a-f]{64}, got.*Delete it"):
        load_weights("tiny", cache=cache)


def test_a_copy_that_vouches_for_itself_is_refused(cache):
    (cache / "weights").mkdir(parents=True)
    forged = {"sha256": digest(tiny_state(5))}
    safetensors.torch.save_file(tiny_state(5), cache / "weights" / "tiny-torchvision.safetensors", metadata=forged)
    with pytest.raises(DosimeterError, match=r"no digest vouches for\. Delete it"):
        load_weights("tiny", cache=cache)


def test_official_digests_are_whole_and_those_that_torchvision_names():
    for network in ("vgg16", "inception_v3"):
        known = get_backbone(network).official
        assert len(known.file_sha256) == 64
        assert known.url.removesuffix(".pth").rpartition("-")[2] == known.file_sha256[:8]


def test_cached_package_must_be_the_published_one_whatever_its_own_digest_says(cache):
    forged = {"sha256": digest(tiny_state(5))}
    path = fetch_weights("tiny", cache)
    safetensors.torch.save_file(tiny_state(5), path, metadata=forged)
    with pytest.raises(DosimeterError, match=f"must have digest {digest(tiny_state(1))}, got {forged['sha256']}"):
        load_weights("tiny", cache=cache)


def test_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DosimeterError, match=r"must be writable.*DOSIMETER_CACHE"):
        fetch_weights("tiny", tmp_path / "file")


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DOSIMETER_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("DOSIMETER_CACHE")
    assert cache_dir().name == "dosimeter"
