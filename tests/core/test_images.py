from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from core.data import images
from core.errors import ImageRefused

# The application silences what Pillow warns of; pytest makes it loud again.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
FORMATS = tuple(images.ENDINGS)
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
# What a camera held in each of EXIF's eight ways has done to the upright picture.
HELD = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quarters() -> Image.Image:
    """A picture of 64×48 with four different corners."""
    image = Image.new("RGB", (64, 48), WHITE)
    draw = ImageDraw.Draw(image)
    for box, color in [
        ((0, 0, 31, 23), RED),
        ((32, 0, 63, 23), BLUE),
        ((0, 24, 31, 47), (0, 99, 0)),
    ]:
        draw.rectangle(box, color)
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and has no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(images.decode(content)).astype(int)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_on_the_list_is_read(photo: Callable[..., bytes], format: str):
    content = photo(0, format=format)
    facts = images.examine(content, f"1{images.ENDINGS[format][0]}")
    assert (facts.format, facts.width, facts.height, facts.remarks) == (format, 64, 48, ())
    assert np.abs(pixels(content) - pixels(photo(0, format="PNG"))).mean() < 12


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PCX", "EPS", "PDF", "JPEG2000"])
def test_a_format_off_the_list_is_refused(photo: Callable[..., bytes], format: str):
    with pytest.raises(ImageRefused, match=r"(none of|only) JPEG, PNG"):
        images.decode(photo(0, format=format))


@pytest.mark.parametrize("orientation", HELD)
@pytest.mark.parametrize("short_side", [None, 24])
def test_a_picture_stands_upright_however_the_camera_was_held(orientation, short_side):
    upright, turn = quarters(), HELD[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    decoded = images.decode(saved(stored, "JPEG", exif=exif, quality=95), short_side)
    expected = upright.resize(decoded.size, Image.Resampling.BOX)
    assert decoded.size in [(64, 48), (32, 24)]
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(expected)).mean() < 8


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff", b"x"])
def test_broken_exif_does_not_cost_the_picture(exif: bytes):
    content = saved(quarters(), "JPEG", exif=exif, quality=95)
    assert np.abs(pixels(content) - np.asarray(quarters())).mean() < 8


@pytest.mark.parametrize(
    "unit",
    [
        struct.pack(">HHII4x", 0x128, 5, 1, 38) + struct.pack(">II", 2, 1),
        struct.pack(">HHIf4x", 0x128, 11, 1, 2.0),
        struct.pack(">HHI4s4x", 0x128, 2, 2, b"2"),
    ],
    ids=["rational", "float", "text"],
)
def test_a_photo_stands_upright_though_another_exif_field_has_the_wrong_type(unit: bytes):
    turned = struct.pack(">HHHIHH", 2, 0x112, 3, 1, 6, 0)
    content = saved(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + turned + unit)
    assert images.decode(content).size == (48, 64)


def test_four_inks_become_the_colors_they_print():
    content = saved(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels(content) - (200, 30, 60)).max() < 12


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_become_white(format: str):
    image = Image.new("RGBA", (16, 16), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    found = pixels(saved(image, format, lossless=True))
    assert (found[:, :8] == 255).all()
    assert np.abs(found[:, 8:] - RED).max() < 3


def test_half_transparent_red_is_pink():
    found = pixels(saved(Image.new("RGBA", (16, 16), (*RED, 128))))
    assert np.abs(found - (255, 127, 127)).max() < 3


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_color_of_a_palette_becomes_white(format: str):
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, 8, 16))
    found = pixels(saved(image, format, transparency=0))
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == RED).all()


def test_gray_with_transparency_becomes_white_where_nothing_is():
    image = Image.new("LA", (16, 16), (0, 255))
    image.paste((0, 0), (0, 0, 8, 16))
    found = pixels(saved(image))
    assert (found[:, :8] == 255).all() and (found[:, 8:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gray_has_three_equal_channels(mode: str):
    image = Image.linear_gradient("L").convert(mode)
    found = pixels(saved(image))
    assert (found == found[:, :, :1]).all()
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_gray_of_many_bits_is_rescaled_not_clipped(format: str, bits: int):
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16)
    found = pixels(saved(Image.fromarray(np.tile(ramp, (32, 1))), format))
    assert np.abs(found[0, :, 0] - np.arange(256)).max() <= 1
    assert (found == found[:1, :, :1]).all()


@pytest.mark.parametrize("full", [1.0, 255.0, 4000.0])
def test_float_pixels_keep_all_their_shades(full: float):
    ramp = np.linspace(0, full, 256).astype(np.float32)
    found = pixels(saved(Image.fromarray(np.tile(ramp, (32, 1))), "TIFF"))
    assert np.abs(found[0, :, 0] - np.arange(256)).max() <= 1


def test_float_pixels_that_are_no_numbers_are_black():
    values = np.full((16, 16), 0.5, dtype=np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    found = pixels(saved(Image.fromarray(values), "TIFF"))
    assert (found[0, :3] == 0).all()
    assert (found[1:] == 128).all()


@pytest.mark.parametrize("odd", [1.2, 50.0, -0.3])
def test_a_pixel_out_of_range_does_not_change_the_others(odd: float):
    ramp = np.tile(np.linspace(0, 1, 256), (32, 1)).astype(np.float32)
    ramp[5, 5] = odd
    found = images.to_8_bit(ramp)
    assert np.abs(found[0] - np.arange(256.0)).max() <= 1
    assert found[5, 5] == (255 if odd > 0 else 0)


@pytest.mark.parametrize(
    ("low", "top", "dtype"),
    [(-1, 1, "f4"), (-128, 127, "f4"), (-1000, 3000, "f4"), (-1024, 3071, "i4"), (-128, 127, "i2")],
)
def test_signed_pixels_keep_all_their_shades(low: float, top: float, dtype: str):
    ramp = np.tile(np.linspace(low, top, 256), (32, 1)).astype(dtype)
    assert np.abs(images.to_8_bit(ramp)[0] - np.arange(256.0)).max() <= 1


def test_a_few_bright_spots_on_black_keep_their_shades():
    spots = np.zeros((100, 100), np.float32)
    spots[0, :3] = 1000, 2000, 4000
    assert images.to_8_bit(spots)[0, :4].tolist() == [64, 128, 255, 0]


def test_whole_numbers_of_32_bits_are_rescaled():
    ramp = np.linspace(0, 2**20 - 1, 256).astype(np.int32)
    found = pixels(saved(Image.fromarray(np.tile(ramp, (32, 1))), "TIFF"))
    assert np.abs(found[0, :, 0] - np.arange(256)).max() <= 1


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_used_and_the_others_are_told_of(format: str):
    first, second = (Image.new("RGB", (16, 16), color) for color in (RED, BLUE))
    content = saved(first, format, save_all=True, append_images=[second])
    assert np.abs(pixels(content) - RED).max() < 5
    facts = images.examine(content, f"1{images.ENDINGS[format][0]}")
    assert facts.remarks == ("it has several frames; the first is used",)


def test_a_jpeg_with_a_second_picture_inside_is_a_jpeg():
    content = saved(quarters(), "MPO", save_all=True, append_images=[quarters()])
    assert images.examine(content, "1.jpg").format == "JPEG"
    assert images.examine(content, "1.jpg").remarks == ()
    assert pixels(content).shape == (48, 64, 3)


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_refused(photo: Callable[..., bytes], format: str):
    content = photo(0, size=(400, 300), format=format)
    with pytest.raises(ImageRefused):
        images.examine(content[: len(content) // 2], "1.jpg")


@pytest.mark.parametrize("lost", [2, 20, 200])
def test_a_jpeg_without_its_end_is_refused_also_where_it_is_decoded_small(photo, lost: int):
    content = photo(0, size=(1200, 900))[:-lost]
    for short_side in (None, 100):
        with pytest.raises(ImageRefused, match="truncated"):
            images.decode(content, short_side)


def test_an_empty_file_is_refused():
    with pytest.raises(ImageRefused, match="it is empty"):
        images.decode(b"")


@pytest.mark.parametrize(
    "content",
    [b"Not Found\n", b"<html></html>", b"<svg xmlns='x'/>", b"\0" * 1000, b"\xff\xd8\xff"],
)
def test_a_file_that_is_only_called_a_picture_is_refused(content: bytes):
    with pytest.raises(ImageRefused):
        images.examine(content, "1.jpg")


def test_a_picture_of_too_many_pixels_is_refused_before_any_is_decoded():
    with pytest.raises(ImageRefused, match="9,000 × 9,000 pixels and the limit is 60,000,000"):
        images.decode(png_header(9000, 9000))
    with pytest.raises(ImageRefused, match=r"header is broken|the limit is"):
        images.decode(png_header(2**31 - 1, 2**31 - 1))


def test_the_most_pixels_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADSTART_MAX_PIXELS", "1000")
    with pytest.raises(ImageRefused, match="the limit is 1,000"):
        images.decode(saved(Image.new("RGB", (40, 40))))
    assert images.decode(saved(Image.new("RGB", (25, 40)))).size == (25, 40)


def test_more_pixels_are_taken_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADSTART_MAX_PIXELS", "1000000000")
    assert images.opened(png_header(20_000, 20_000)).size == (20_000, 20_000)


def test_the_longest_side_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADSTART_MAX_SIDE", "100")
    assert images.decode(saved(Image.new("RGB", (100, 10)))).size == (100, 10)
    with pytest.raises(ImageRefused):
        images.decode(saved(Image.new("RGB", (101, 10))))


def test_a_file_of_too_many_bytes_is_refused(photo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADSTART_MAX_FILE_BYTES", "1000")
    with pytest.raises(ImageRefused, match="the limit is 1,000"):
        images.decode(photo(0))


def test_a_jpeg_that_asks_for_hundreds_of_passes_is_refused():
    content = saved(quarters(), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    assert images.decode(content[:-2] + scan * 20 + content[-2:])
    with pytest.raises(ImageRefused, match="passes"):
        images.decode(content[:-2] + scan * 200 + content[-2:])


def test_hundreds_of_passes_of_one_layer_each_are_refused_of_a_plain_jpeg_too():
    content = saved(quarters(), "JPEG", subsampling=0)
    start = content.rindex(b"\xff\xda")
    # The decoder is told of one layer, and then again and again: Y, 1 of its tables each.
    one = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[start + 14 : -2]
    with pytest.raises(ImageRefused, match="passes"):
        images.decode(content[:start] + one * 200 + content[-2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_film_behind_a_photo_asks_for_no_passes(progressive: bool):
    film = np.random.default_rng(0).integers(256, size=8_000_000, dtype=np.uint8).tobytes()
    assert film.count(b"\xff\xda") > images.MOST_SCANS
    content = saved(quarters(), "JPEG", progressive=progressive)
    assert images.examine(content + film, "1.jpg").remarks == ()


def test_a_preview_inside_a_photo_asks_for_no_passes():
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda".encode("latin-1") * 500
    content = saved(quarters(), "JPEG", exif=exif, comment=b"\xff\xd9" * 9)
    assert images.examine(content, "1.jpg").remarks == ()
    assert images.scans(content, Image.open(io.BytesIO(content))) == 1


def test_passes_are_counted_behind_what_looks_like_the_end():
    content = saved(quarters(), "JPEG", progressive=True, comment=b"\xff\xd9" * 9)
    scan = content[content.rindex(b"\xff\xda") : -2]
    for between in (b"", b"\xff\xff", b"\xff\xd0", b"\xff\x02\xff"):
        with pytest.raises(ImageRefused, match="passes"):
            images.decode(content[:-2] + (between + scan) * 200 + content[-2:])


@pytest.mark.parametrize("name", ["1.png", "a.jpg/1.gif", "1.jpg.bmp"])
def test_a_name_that_says_another_format_is_told_of(photo: Callable[..., bytes], name: str):
    remarks = images.examine(photo(0), name).remarks
    assert remarks == ("its content is JPEG, its name says otherwise",)


@pytest.mark.parametrize("name", ["1.jpg", "1.JPEG", "a.png/1.Jpg"])
def test_a_name_that_says_the_format_is_not(photo: Callable[..., bytes], name: str):
    assert images.examine(photo(0), name).remarks == ()


def test_a_name_without_an_ending_is_told_of(photo: Callable[..., bytes]):
    remarks = images.examine(photo(0), "ants/IMG_0001").remarks
    assert remarks == ("its content is JPEG, its name has no ending",)


@pytest.mark.parametrize(
    ("image", "remark"),
    [
        (Image.new("RGB", (7, 40)), "it is under 8 pixels wide or high"),
        (Image.new("RGB", (8 * 50 + 1, 8)), "it is over 50 times as long as wide"),
        (Image.new("I;16", (16, 16)), "its pixels have more than 8 bits; they were rescaled"),
    ],
)
def test_what_is_odd_about_a_picture_is_told(image: Image.Image, remark: str):
    assert images.examine(saved(image), "1.png").remarks == (remark,)


@pytest.mark.parametrize("size", [(800, 600), (601, 1999), (50, 60), (3000, 40)])
@pytest.mark.parametrize("short_side", [32, 50, 224])
def test_a_jpeg_decoded_small_is_never_smaller_than_asked_for(photo, size, short_side):
    content = photo(0, size=size)
    small, whole = images.decode(content, short_side), images.decode(content)
    assert min(small.size) >= min(short_side, *size)
    assert small.width / small.height == pytest.approx(size[0] / size[1], rel=0.05)
    assert np.asarray(small).mean() == pytest.approx(np.asarray(whole).mean(), abs=2)


def test_large_pictures_wait_for_each_other_and_others_do_not(monkeypatch):
    class Turns:
        taken = 0

        def __enter__(self) -> None:
            self.taken += 1

        def __exit__(self, *_: object) -> None: ...

    turns = Turns()
    monkeypatch.setattr(images, "LARGE_AT_ONCE", turns)
    monkeypatch.setattr(images, "LARGE_PIXELS", 100 * 100)
    images.examine(saved(Image.new("RGB", (100, 100))), "at the limit.png")
    assert turns.taken == 0
    images.examine(saved(Image.new("RGB", (101, 100))), "beyond.png")
    assert turns.taken == 1


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(photo: Callable[..., bytes]):
    assert images.decode(photo(0, size=(1600, 1200)), 150).size == (200, 150)


def test_a_picture_for_the_browser_tells_nothing_of_where_it_was_taken(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F] = "Secret camera"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 12.0)
    content = saved(quarters(), "JPEG", exif=exif, comment=b"Secret comment")
    assert b"Secret" in content
    shown = images.as_jpeg(images.decode(content), 32)
    assert b"Secret" not in shown
    assert Image.open(io.BytesIO(shown)).size == (32, 24)
    assert not Image.open(io.BytesIO(shown)).getexif()


@settings(max_examples=25)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.1, 1),
)
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_never_fails_in_an_unforeseen_way(format, changes, kept):
    content = bytearray(saved(quarters(), format))
    for place, value in changes:
        content[int(place * len(content))] = value
    try:
        facts = images.examine(bytes(content[: int(kept * len(content))]), "1.jpg")
    except ImageRefused as refusal:
        assert refusal.what and refusal.remedy
    else:
        assert facts.width > 0 and facts.height > 0


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_that_are_damaged_end_in_facts_or_a_refusal(format: str):
    frames = [Image.new("P", (16, 16), n) for n in range(4)]
    for frame in frames:
        frame.putpalette([0, 0, 0, *RED, *BLUE, *WHITE])
    whole = np.frombuffer(saved(frames[0], format, save_all=True, append_images=frames[1:]), "u1")
    generator, ends = np.random.default_rng(0), set()
    for number in range(1000):
        content = whole.copy()
        content[generator.integers(len(whole), size=2)] = generator.integers(256, size=2)
        kept = len(whole) if number % 2 else generator.integers(len(whole) // 2, len(whole))
        try:
            ends.add(type(images.examine(content[:kept].tobytes(), "1.gif")))
        except ImageRefused as refusal:
            ends.add(type(refusal))
    assert ends == {images.Facts, ImageRefused}


@pytest.mark.parametrize(
    ("start", "what", "remedy"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC photo", "Export it as JPEG"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video", "Save the frames"),
        (b"\n<!DOCTYPE html><html>Not found", "a web page", "Download the image itself"),
        (b'<?xml version="1.0"?><svg>', "a drawing", "save it as JPEG or PNG"),
        (b"PK\3\4\x14\0\0\0", "an archive", "Unpack it"),
    ],
)
def test_what_people_take_for_a_photo_is_called_by_its_name(start: bytes, what: str, remedy: str):
    with pytest.raises(ImageRefused) as refusal:
        images.decode(start + bytes(100))
    assert what in refusal.value.what and remedy in refusal.value.remedy


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("MAX_PIXELS", "3000", "64 × 48 pixels and the limit is 3,000"),
        ("MAX_SIDE", "60", "64 × 48 pixels and the limit is 60 a side"),
        ("MAX_FILE_BYTES", "500", "bytes and the limit is 500"),
    ],
)
def test_a_refusal_says_the_number_and_the_limit(photo, monkeypatch, limit, value, said):
    monkeypatch.setenv(f"HEADSTART_{limit}", value)
    with pytest.raises(ImageRefused, match=said) as refusal:
        images.decode(photo(0))
    assert refusal.value.remedy == f"Save it smaller, or raise HEADSTART_{limit}."
