"""Pixels of image files: every mode of Pillow, transparency, depth, and how the camera was held."""

import io

import numpy as np
import pytest

from qdeq.data.image_files import read_image
from qdeq.data.tables import image_pixels
from qdeq.errors import UserError

Image = pytest.importorskip("PIL.Image")

GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
# A drawing in black on nothing: without its transparency every pixel is 0.
INK = np.zeros((6, 9), np.uint8)
INK[2:4, 1:8] = 255
DRAWN = 255 - INK


def read(tmp_path, picture, kind="PNG", **options):
    picture.save(tmp_path / f"a.{kind.lower()}", kind, **options)
    return read_image(tmp_path / f"a.{kind.lower()}")


def is_grey(pixels):
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def grey_of(pixels):
    assert is_grey(pixels)
    return pixels if pixels.ndim == 2 else pixels[..., 0]


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        ("PNG", 257, np.uint16),
        ("TIFF", 257, np.uint16),
        ("PPM", 257, np.uint16),
        ("TIFF", 257, np.int32),  # 32 bits that hold 16
        ("TIFF", 1, np.int32),  # 32 bits that hold 8
        ("TIFF", 1, np.uint8),
        ("PPM", 1, np.uint8),
        ("BMP", 1, np.uint8),
    ],
)
def test_pixels_of_every_depth_are_bytes(tmp_path, kind, values, dtype):
    found = read(tmp_path, Image.fromarray(GREY.astype(dtype) * dtype(values)), kind)
    np.testing.assert_array_equal(found, GREY)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path):
    for kind in ("PNG", "TIFF", "PPM"):
        found = read(tmp_path, Image.fromarray(GREY.astype(np.uint16)), kind)
        np.testing.assert_array_equal(found, np.rint(GREY / 257))


def test_twelve_bits_have_a_white_of_their_own(tmp_path):
    # Two pixels of 12 bits in three bytes: 4095 and 0, which Pillow reads and does not write.
    tags = [(256, 4, 2), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, 1), (279, 4, 3)]
    entries = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )  # fmt: skip
    data = b"II*\0" + (12).to_bytes(4, "little") + b"\xff\xf0\x00\0"
    data += len(tags).to_bytes(2, "little") + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    assert read_image(tmp_path / "a.tif").tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.array([[0, 70000]], np.int32), "its pixels run from 0 to 70000, not from 0 to 65535"),
        (np.array([[-5, 7]], np.int32), "its pixels run from -5 to 7"),
        (np.array([[0.0, 1.0]], np.float32), "floating-point numbers without a known range"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, Image.fromarray(pixels), "TIFF")
    assert "\n" not in str(caught.value)


def drawings():
    """The drawing in every way to say what is transparent: picture, options to save it with."""
    ink, black = Image.fromarray(INK), Image.new("L", (9, 6))
    indexed = Image.fromarray(INK // 255)
    indexed.putpalette([255, 0, 0, 0, 0, 0])  # red that is transparent, and black
    grey = Image.fromarray(np.where(INK, 0, 9).astype(np.uint8))
    wide = Image.fromarray(np.where(INK, 0, 900).astype(np.uint16))
    rgb = Image.merge("RGB", (grey, grey, grey))
    return {
        "LA": (Image.merge("LA", (black, ink)), {}),
        "RGBA": (Image.merge("RGBA", (black, black, black, ink)), {}),
        "P": (indexed, {"transparency": 0}),
        "P, alpha of every colour": (indexed, {"transparency": b"\x00\xff"}),
        "L": (grey, {"transparency": 9}),
        "1": (Image.fromarray(INK == 0), {"transparency": 1}),
        "RGB": (rgb, {"transparency": (9, 9, 9)}),
        "I;16": (wide, {"transparency": 900}),
    }


@pytest.mark.parametrize("name", drawings())
@pytest.mark.parametrize("colour", [None, False, True])
def test_what_is_transparent_is_white(tmp_path, name, colour):
    picture, options = drawings()[name]
    if colour is None:
        found = read(tmp_path, picture, **options)
    else:
        file = io.BytesIO()
        picture.save(file, "PNG", **options)
        found = image_pixels(Image.open(file), colour=colour)
        assert found.ndim == 2 + colour
    np.testing.assert_array_equal(grey_of(found), DRAWN)


def test_what_is_half_transparent_is_half_white(tmp_path):
    half = Image.new("L", (9, 6), 128)
    found = read(tmp_path, Image.merge("LA", (Image.fromarray(GREY), half)))
    np.testing.assert_array_equal(found, np.rint(GREY * (128 / 255) + 127))
    found = read(tmp_path, Image.fromarray(np.dstack([COLOUR, np.full((6, 9), 128, np.uint8)])))
    np.testing.assert_array_equal(found, np.rint(COLOUR * (128 / 255) + 127))


def test_formats_with_transparency_other_than_png(tmp_path):
    ink, black = Image.fromarray(INK), Image.new("L", (9, 6))
    drawing = Image.merge("RGBA", (black, black, black, ink))
    for kind, options in {"WEBP": {"lossless": True}, "TIFF": {}, "GIF": {}}.items():
        np.testing.assert_array_equal(grey_of(read(tmp_path, drawing, kind, **options)), DRAWN)
    np.testing.assert_array_equal(
        grey_of(read(tmp_path, Image.merge("LA", (black, ink)), "TIFF")), DRAWN
    )


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "CMYK", "YCbCr", "RGBX", "P", "LA", "PA", "1", "L"]
)
def test_every_mode_without_transparency_is_as_pillow_shows_it(mode):
    picture = Image.fromarray(COLOUR).convert(mode)
    shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(image_pixels(picture.copy(), colour=True), shown)
    grey = np.asarray(Image.fromarray(shown).convert("L"))
    np.testing.assert_array_equal(image_pixels(picture.copy(), colour=False), grey)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("PNG", COLOUR),
        ("PNG", GREY.astype(np.uint16) * 257),
        ("TIFF", GREY),
        ("TIFF", GREY.astype(np.uint16) * 257),
        ("TIFF", GREY.astype(np.int32)),
        ("WEBP", COLOUR),
    ],
)
def test_images_are_turned_as_the_camera_was_held(tmp_path, orientation, kind, pixels):
    turned = pytest.importorskip("PIL.ImageOps").exif_transpose

    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read(tmp_path, Image.fromarray(pixels), kind, exif=exif, **options)
    plain = Image.fromarray(COLOUR if pixels.ndim == 3 else GREY)
    plain.getexif()[274] = orientation
    np.testing.assert_array_equal(found, np.asarray(turned(plain)))


def test_damaged_notes_of_a_camera_leave_the_pixels(tmp_path):
    found = read(tmp_path, Image.fromarray(COLOUR), exif=b"Exif\0\0no notes at all")
    np.testing.assert_array_equal(found, COLOUR)


def test_a_file_that_ends_early_is_refused(tmp_path):
    Image.fromarray(COLOUR).resize((90, 60)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")
