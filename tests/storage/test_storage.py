"""Every mode really makes files, and what comes back is what a closed form or another library says."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut

from dosimeter import registry
from dosimeter.cohorts.base import FloatImage
from dosimeter.cohorts.images import decode_image
from dosimeter.errors import DosimeterError
from dosimeter.storage.base import get_storage, storages

LOSSLESS = [name for name, storage in storages().items() if storage.levels and storage.lossless]
LOSSY = [name for name, storage in storages().items() if not storage.lossless]
DICOM = [name for name, storage in storages().items() if storage.suffix == ".dcm"]
RNG = np.random.default_rng(0)


def grey(side: int = 24) -> FloatImage:
    """A grey image of any values in [0, 1], black and white among them."""
    plane = RNG.random((1, side, side), dtype=np.float32)
    plane[0, 0, :2] = 0, 1
    return np.ascontiguousarray(np.broadcast_to(plane, (3, side, side)))


def encoded(name: str, image: FloatImage) -> bytes:
    encode = get_storage(name).encode
    assert encode is not None
    return encode(image)


def test_settings_know_every_mode() -> None:
    assert tuple(storages()) == registry.names("storages")
    with pytest.raises(DosimeterError, match="Did you mean 'dicom12'"):
        get_storage("dicom-12")


def test_floats_are_never_stored() -> None:
    image = grey()
    assert get_storage("float").store(image) is image


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_holds_the_nearest_level_and_stays_what_it_is(name: str) -> None:
    storage, image = get_storage(name), grey()
    stored = storage.store(image)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, (np.rint(image.astype(float) * storage.levels) / storage.levels).astype("f4"))
    np.testing.assert_array_equal(storage.store(stored), stored)
    assert np.abs(stored - image).max() <= 0.5 / storage.levels + 1e-7


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_level_of_a_lossless_file_survives(name: str) -> None:
    storage = get_storage(name)
    values = np.unique(np.linspace(0, storage.levels, 4096).round()) / storage.levels
    image = np.broadcast_to(values.astype(np.float32), (3, 1, len(values)))
    np.testing.assert_array_equal(storage.store(np.ascontiguousarray(image)), image)


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_is_pillow_s(name: str, colour: bool) -> None:
    image = RNG.random((3, 24, 24), dtype=np.float32) if colour else grey()
    pixels = np.rint(image * 255).astype(np.uint8)
    picture = Image.fromarray(pixels.transpose(1, 2, 0) if colour else pixels[0])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(name.removeprefix("jpeg")))
    expected = np.asarray(Image.open(buffer).convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(get_storage(name).store(image), expected, atol=1e-7)


@pytest.mark.parametrize("name", ["png16", *DICOM])
def test_a_grey_file_holds_the_mean_of_three_planes(name: str) -> None:
    image = RNG.random((3, 8, 8), dtype=np.float32)
    levels = get_storage(name).levels
    stored = get_storage(name).store(image)
    np.testing.assert_allclose(stored[0], image.mean(axis=0), atol=0.5 / levels + 1e-6)
    assert (stored == stored[:1]).all()


def test_a_colour_png_keeps_its_planes() -> None:
    image = RNG.random((3, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(get_storage("png8").store(image), np.rint(image * 255) / 255, atol=1e-7)


@pytest.mark.parametrize("name", DICOM)
def test_dicom_reads_as_pydicom_says(name: str) -> None:
    content = encoded(name, grey())
    dataset = pydicom.dcmread(io.BytesIO(content))
    values = apply_modality_lut(dataset.pixel_array, dataset)
    if name == "ct-hu":
        assert (dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction) == (-600, 1500, "LINEAR_EXACT")
        assert dataset.PixelRepresentation == 1
        assert values.min() == -1350
        assert values.max() == 150
        expected = (values + 1350) / 1500
    else:
        top = 2**dataset.BitsStored - 1
        assert dataset.BitsStored == (16 if name == "dicom16" else 12)
        expected = (top - values if name == "dicom-mono1" else values) / top
    np.testing.assert_allclose(decode_image(content, name="a file").image[0], expected, atol=1e-7)


def test_mono1_holds_the_negative_of_mono2() -> None:
    image = grey()
    two, one = (pydicom.dcmread(io.BytesIO(encoded(name, image))) for name in ("dicom12", "dicom-mono1"))
    np.testing.assert_array_equal(one.pixel_array, 4095 - two.pixel_array)
    np.testing.assert_array_equal(get_storage("dicom-mono1").store(image), get_storage("dicom12").store(image))
