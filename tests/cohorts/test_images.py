"""Reading image files of every kind; the oracles are arrays written by hand into each format."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dosimeter.cohorts.base import Decoded
from dosimeter.cohorts.images import ImageError, decode_image, read_image, to_grid
from dosimeter.errors import DosimeterError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
DEEP_RGBA = RNG.integers(0, 65536, (9, 7, 4), dtype=np.uint16)


def unit(samples: np.ndarray, bits: int = 8) -> np.ndarray:
    """float32(k / (2**bits - 1)), as (C, H, W)."""
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    return (samples.astype(np.float64) / (2**bits - 1)).astype(np.float32).transpose(2, 0, 1)


def on_black(colour: np.ndarray, alpha: np.ndarray, bits: int = 8) -> np.ndarray:
    top = 2**bits - 1
    return np.rint(colour.astype(np.float64) * alpha[..., None] / top)


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def predict(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        nearest = left + up - corner
        return min((left, up, corner), key=lambda value: abs(nearest - value))
    return (0, left, up, (left + up) // 2)[kind]


def png_chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def png16(samples: np.ndarray, *extra: bytes) -> bytes:
    """A 16-bit PNG file with 1 to 4 channels, its rows filtered in all five ways."""
    height, width, channels = samples.shape
    step, length = 2 * channels, 2 * channels * width
    raw, packed = samples.astype(">u2").tobytes(), b""
    above = bytes(length)
    for y in range(height):
        row = raw[y * length : (y + 1) * length]
        packed += bytes([y % 5])
        for i, byte in enumerate(row):
            left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
            packed += bytes([(byte - predict(y % 5, left, above[i], corner)) & 255])
        above = row
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(packed)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def tiff(strip: bytes, width: int, height: int, *, order: str = "<", deflate: bool = False, **tags: int) -> bytes:
    """A TIFF file of one strip: `order` is the byte order, tags by name are SHORTs."""
    bits, channels = tags.pop("bits"), tags.pop("channels", 1)
    strip = zlib.compress(strip) if deflate else strip
    photometric = tags.pop("photometric", 1 if channels == 1 else 2)
    entries = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 8 if deflate else 1), (262, 3, 1, photometric)]
    entries += [(273, 4, 1, 0), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(strip))]
    entries += [(274, 3, 1, tags.pop("orientation", 1)), (258, 3, channels, bits), (284, 3, 1, tags.pop("planar", 1))]
    if channels == 4:
        entries += [(338, 3, 1, 2)]  # the fourth channel is alpha, not premultiplied
    assert not tags
    deep_at = 8 + 2 + 12 * len(entries) + 4
    strip_at = deep_at + 2 * channels
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in sorted(entries):
        value = strip_at if tag == 273 else deep_at if tag == 258 and channels > 2 else value
        wide = kind == 4 or (tag == 258 and channels > 2)
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        directory += struct.pack(f"{order}I", value) if wide else struct.pack(f"{order}HH", value, 0)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + directory + bytes(4) + struct.pack(f"{order}{channels}H", *[bits] * channels) + strip


def pack12(samples: np.ndarray) -> bytes:
    """Rows of 12-bit samples, an even number in each, two in three bytes."""
    first, second = samples[:, ::2].astype(int), samples[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2)
    return packed.astype(np.uint8).tobytes()


PALETTE = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
INDEXED = Image.fromarray((GREY % 4).astype(np.uint8)).convert("P")
INDEXED.putpalette(PALETTE.tobytes())
BLACK_WHITE = GREY > 127
LA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(RGB[:, :, 0])])
RGBA = Image.fromarray(np.dstack([RGB, GREY]))
CMYK = Image.fromarray(RGB).convert("CMYK")

KINDS = {
    "grey png": (saved(Image.fromarray(GREY), "PNG"), unit(GREY), 8),
    "grey bmp": (saved(Image.fromarray(GREY), "BMP"), unit(GREY), 8),
    "grey tiff": (saved(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), unit(GREY), 8),
    "rgb png": (saved(Image.fromarray(RGB), "PNG"), unit(RGB), 8),
    "rgb bmp": (saved(Image.fromarray(RGB), "BMP"), unit(RGB), 8),
    "rgb tiff": (saved(Image.fromarray(RGB), "TIFF"), unit(RGB), 8),
    "equal rgb png": (saved(Image.fromarray(np.dstack([GREY] * 3)), "PNG"), unit(GREY), 8),
    "black and white png": (saved(Image.fromarray(BLACK_WHITE), "PNG"), unit(255 * BLACK_WHITE), 8),
    "black and white tiff": (saved(Image.fromarray(BLACK_WHITE), "TIFF"), unit(255 * BLACK_WHITE), 8),
    "palette png": (saved(INDEXED, "PNG"), unit(PALETTE[GREY % 4]), 8),
    "palette tiff": (saved(INDEXED, "TIFF"), unit(PALETTE[GREY % 4]), 8),
    "transparent palette png": (
        saved(INDEXED, "PNG", transparency=2),
        unit(np.where((GREY % 4 == 2)[..., None], 0, PALETTE[GREY % 4])),
        8,
    ),
    "transparent grey png": (
        saved(Image.fromarray(GREY), "PNG", transparency=int(GREY[0, 0])),
        unit(np.where(np.equal(GREY, GREY[0, 0]), 0, GREY)),
        8,
    ),
    "grey alpha png": (saved(LA, "PNG"), unit(on_black(GREY[..., None], RGB[:, :, 0])), 8),
    "rgba png": (saved(RGBA, "PNG"), unit(on_black(RGB, GREY)), 8),
    "rgba tiff": (saved(RGBA, "TIFF"), unit(on_black(RGB, GREY)), 8),
    "cmyk tiff": (saved(CMYK, "TIFF"), unit(np.asarray(CMYK.convert("RGB"))), 8),
    "16-bit png": (saved(Image.fromarray(DEEP), "PNG"), unit(DEEP, 16), 16),
    "16-bit tiff": (saved(Image.fromarray(DEEP), "TIFF"), unit(DEEP, 16), 16),
    "16-bit lzw tiff": (saved(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"), unit(DEEP, 16), 16),
    "16-bit big-endian tiff": (tiff(DEEP.astype(">u2").tobytes(), 7, 9, order=">", bits=16), unit(DEEP, 16), 16),
    "16-bit white-is-zero tiff": (
        tiff(DEEP.tobytes(), 7, 9, bits=16, photometric=0),
        unit(65535 - DEEP.astype(int), 16),
        16,
    ),
    "12-bit tiff": (tiff(pack12(DEEP[:, :6] >> 4), 6, 9, bits=12), unit(DEEP[:, :6] >> 4, 12), 12),
    "dark 16-bit png": (saved(Image.fromarray(DEEP >> 4), "PNG"), unit(DEEP >> 4, 16), 16),
    "16-bit keyed png": (
        png16(DEEP[:, :, None], png_chunk(b"tRNS", struct.pack(">H", DEEP[0, 0]))),
        unit(np.where(np.equal(DEEP, DEEP[0, 0]), 0, DEEP), 16),
        16,
    ),
    "16-bit rgb png": (png16(DEEP_RGBA[:, :, :3]), unit(DEEP_RGBA[:, :, :3], 16), 16),
    "16-bit equal rgb png": (png16(np.dstack([DEEP] * 3)), unit(DEEP, 16), 16),
    "16-bit rgba png": (png16(DEEP_RGBA), unit(on_black(DEEP_RGBA[:, :, :3], DEEP_RGBA[:, :, 3], 16), 16), 16),
    "16-bit grey alpha png": (
        png16(DEEP_RGBA[:, :, :2]),
        unit(on_black(DEEP_RGBA[:, :, :1], DEEP_RGBA[:, :, 1], 16), 16),
        16,
    ),
} | {
    f"16-bit {channels}-channel tiff {order} {'deflate' if deflate else 'raw'}": (
        tiff(
            DEEP_RGBA[:, :, :channels].astype(f"{order}u2").tobytes(),
            *(7, 9),
            order=order,
            deflate=deflate,
            bits=16,
            channels=channels,
        ),
        unit(DEEP_RGBA[:, :, :3], 16)
        if channels == 3
        else unit(on_black(DEEP_RGBA[:, :, :3], DEEP_RGBA[:, :, 3], 16), 16),
        16,
    )
    for order in "<>"
    for deflate in (False, True)
    for channels in (3, 4)
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_on_its_own_grid(kind: str, tmp_path: Path) -> None:
    content, expected, bits = KINDS[kind]
    path = tmp_path / "50% of a Thórax #1"  # no suffix: the content decides
    path.write_bytes(content)
    image, depth = read_image(path)
    assert depth == bits
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_what_pillow_decodes(mode: str) -> None:
    smooth = Image.linear_gradient("L").resize((40, 30))
    source = Image.merge("RGB", [smooth, ImageOps.invert(smooth), smooth]).convert(mode)
    content = saved(source, "JPEG", quality=95)
    image, bits = decode_image(content, name="x.jpg")
    decoded = np.asarray(Image.open(io.BytesIO(content)).convert("L" if mode == "L" else "RGB"))
    assert bits == 8
    np.testing.assert_array_equal(image, unit(decoded))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(Image.fromarray(RGB), "PNG", exif=exif.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decode_image(content, name="x").image, unit(upright))
    deep = tiff(DEEP.tobytes(), 7, 9, bits=16, orientation=orientation)
    once = decode_image(deep, name="x").image
    plain = Image.fromarray(DEEP.astype(np.int32))
    plain.getexif()[274] = orientation
    np.testing.assert_array_equal(once, unit(np.asarray(ImageOps.exif_transpose(plain)), 16))
    colour = tiff(DEEP_RGBA[:, :, :3].tobytes(), 7, 9, bits=16, channels=3, orientation=orientation)
    assert decode_image(colour, name="x").image.shape[1:] == once.shape[1:]


def test_a_camera_jpeg_with_previews_gives_the_picture() -> None:
    content = saved(Image.fromarray(GREY), "MPO", save_all=True, append_images=[Image.fromarray(GREY[:3])])
    assert decode_image(content, name="x.jpg").image.shape == (1, 9, 7)


def multi_frame(suffix: str) -> bytes:
    return saved(Image.fromarray(GREY), suffix, save_all=True, append_images=[Image.fromarray(255 - GREY)])


def grey_png(rows: int, *extra: bytes, bits: int = 8) -> bytes:
    """A grey PNG file of 7 x 9 pixels whose data ends after some of its rows; sample x is x modulo 4."""
    row = b"\0" + (bytes(range(4)) * 2)[:7] if bits == 8 else b"\0" + bytes([0b00011011, 0b00011000])
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 9, bits, 0, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(row * rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


@pytest.mark.parametrize("key", range(4))
def test_the_transparent_level_of_two_bits_is_one_of_their_four(key: int) -> None:
    image, bits = decode_image(grey_png(9, png_chunk(b"tRNS", struct.pack(">H", key)), bits=2), name="x")
    levels = np.tile((np.arange(7) % 4) * 85, (9, 1))
    np.testing.assert_array_equal(image, unit(np.where(levels == 85 * key, 0, levels)))
    assert bits == 8


def patched(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF file of `tiff` with another value, a SHORT or a LONG, in a tag that it has."""
    place = next(at for at in range(10, 10 + 12 * content[8], 12) if content[at : at + 2] == struct.pack("<H", tag))
    return content[: place + 8] + struct.pack("<I", value) + content[place + 12 :]


NOISE = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"not an image", "no PNG, JPEG, TIFF, BMP or DICOM"),
    "another format": (saved(Image.fromarray(GREY), "GIF"), "no PNG, JPEG, TIFF, BMP or DICOM"),
    "half a header": (saved(NOISE, "PNG")[:20], "damaged"),
    "half a png": (saved(NOISE, "PNG")[:6000], "damaged or truncated"),
    "half a jpeg": (saved(NOISE, "JPEG")[:1500], "damaged or truncated"),
    "half a bmp": (saved(NOISE, "BMP")[:6000], "damaged or truncated"),
    "half a tiff": (saved(NOISE, "TIFF", compression="tiff_lzw")[:3000], "damaged"),
    "half a 16-bit rgb png": (png16(DEEP_RGBA)[:300], "damaged or truncated"),
    "two frames": (multi_frame("TIFF"), "2 frames; save each frame"),
    "animated png": (multi_frame("PNG"), "2 frames; save each frame"),
    "32-bit integers": (saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), "no declared range"),
    "floating point": (saved(Image.fromarray(unit(GREY)[0]), "TIFF"), "no declared range"),
    "a png without its last rows": (grey_png(5), "truncated: rows are missing"),
    "a tiff without its last strips": (
        patched(tiff(GREY.tobytes(), 7, 9, bits=8), 278, 4),
        "truncated: strips or tiles are missing",
    ),
    "planes of 16 bits": (
        tiff(DEEP_RGBA[:, :, :3].tobytes(), 7, 9, bits=16, channels=3, planar=2),
        "one after the other",
    ),
    "signed bytes": (saved(Image.fromarray(GREY), "TIFF", tiffinfo={339: 2}), "signed or 32-bit numbers"),
    "10 bits": (tiff(bytes(90), 7, 9, bits=10), "pixels that cannot be read here; save it as PNG"),
    "lab": (saved(Image.new("LAB", (4, 4)), "TIFF"), "colour mode LAB is not supported"),
    "bomb": (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)),
        "absurdly many pixels|header is damaged",
    ),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, of half a TIFF file
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_name_and_reason(kind: str, tmp_path: Path) -> None:
    content, reason = BAD[kind]
    path = tmp_path / "a%b ü.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert str(path) not in caught.value.reason
    assert "0x" not in str(caught.value)  # no memory addresses


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.png", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(ImageError, match="no such file"):
            read_image(path)


def test_size_is_checked_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(saved(Image.new("L", (50, 20)), "PNG"))
    assert read_image(path, max_pixels=1000).image.shape == (1, 20, 50)
    with pytest.raises(ImageError, match="50 x 20 pixels, more than the 999 allowed"):
        read_image(path, max_pixels=999)
    with pytest.raises(ImageError, match="bytes, more than 5 pixels can need"):
        read_image(path, max_pixels=5)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("size_px", [5, 31, 64])
def test_to_grid_stays_on_the_grid(bits: int, size_px: int) -> None:
    top = 2**bits - 1
    source = Decoded(unit(RNG.integers(0, top + 1, (40, 23, 3)), bits), bits)
    image = to_grid(source, size_px=size_px)
    assert image.shape == (3, size_px, size_px)
    steps = np.rint(image.astype(np.float64) * top)
    np.testing.assert_array_equal(image, (steps / top).astype(np.float32))
    assert image.dtype == np.float32


def test_to_grid_averages_when_it_shrinks() -> None:
    board = Decoded(unit(255 * (np.indices((64, 64)).sum(axis=0) % 2)), 8)
    np.testing.assert_allclose(to_grid(board, size_px=16), 0.5, atol=1 / 255)  # no aliasing
    ramp = Decoded(np.tile(np.linspace(0, 1, 448, dtype=np.float32), (1, 448, 1)), 16)
    expected = ramp.image[0, 0].reshape(224, 2).mean(axis=1)
    np.testing.assert_allclose(to_grid(ramp, size_px=224)[0, 100, 1:-1], expected[1:-1], atol=2e-5)


def test_to_grid_of_the_right_size_is_a_copy() -> None:
    source = Decoded(unit(GREY[:7]), 8)
    image = to_grid(source, size_px=7)
    np.testing.assert_array_equal(image, source.image)
    image[:] = 0
    assert source.image.any()
    with pytest.raises(DosimeterError, match="at least 1, got 0"):
        to_grid(source, size_px=0)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_whole_file_with_absurd_texts_is_not_called_damaged(kind: bytes, tmp_path: Path) -> None:
    whole = saved(Image.fromarray(np.zeros((9, 9), np.uint8)), "PNG")
    data = kind + b"k\0\0" + zlib.compress(b"\0" * (1 << 27), 9)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    path = tmp_path / "a.png"
    path.write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(ImageError, match="absurdly large"):
        read_image(path)
