"""JPEG decoding: the extra `jpeg` gives the pixels of OpenCV, for every kind of file that OpenCV reads."""

import cv2
import numpy as np
import pytest
from PIL import Image

from microg_da.data import jpeg
from microg_da.data.jpeg import REDUCTIONS, decode_jpeg
from microg_da.errors import InputError

SAMPLING = {"420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}


@pytest.fixture(params=["simplejpeg", "OpenCV"])
def decoder(request, monkeypatch) -> str:
    if request.param == "simplejpeg":
        pytest.importorskip("simplejpeg")
    monkeypatch.setattr(jpeg, "HAS_SIMPLEJPEG", request.param == "simplejpeg")
    return request.param


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(48, 64), (37, 53), (9, 7)])
@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("extra", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_pixels_are_those_of_opencv(tmp_path, decoder, size, sampling, extra):
    path = str(tmp_path / "a.jpg")
    cv2.imwrite(path, picture(*size), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling], *extra])
    flags = [cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_8]
    for reduction, flag in zip(REDUCTIONS, flags, strict=True):
        np.testing.assert_array_equal(decode_jpeg(path, reduction), cv2.imread(path, flag))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_spaces(tmp_path, decoder, mode):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(picture(48, 64)).convert(mode).save(path)
    np.testing.assert_array_equal(decode_jpeg(path), cv2.imread(path, cv2.IMREAD_COLOR))
    assert decode_jpeg(path, 2).shape == (24, 32, 3)


def test_a_picture_is_turned_as_its_exif_data_says(tmp_path, decoder):
    path = str(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn clockwise
    Image.fromarray(picture(48, 64)).save(path, exif=exif)
    assert decode_jpeg(path).shape == (64, 48, 3)


def test_damage_inside_a_file(tmp_path, decoder):
    """A damaged picture is what OpenCV makes of it; a file of other data is an error."""
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture(240, 320))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff\xd9" * 4
    path.write_bytes(data)
    np.testing.assert_array_equal(decode_jpeg(str(path)), cv2.imread(str(path)))
    path.write_bytes(b"not a picture \xff\xd9")
    with pytest.raises(InputError, match=r"a\.jpg.*JPEG"):
        decode_jpeg(str(path))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.jpg.*0 bytes"):
        decode_jpeg(str(path))
