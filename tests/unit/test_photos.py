"""A folder of images: any kind of image is prepared alike, and a bad one is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.models import ResNet18_Weights

from deepgap.build.images.choice import FEWEST, choose_photos
from deepgap.build.images.imagesets import calibration_images, describe_calibration
from deepgap.build.images.photos import digest_photos, list_photos, load_photo, open_photo
from deepgap.errors import ImageError

SIZE = 64
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
ORANGE = (240, 120, 40)


def gradient(width: int = 90, height: int = 60) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 50)], axis=-1).astype(np.uint8))


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(((np.array(colour) / 255 - MEAN) / STD)[:, None, None], (3, SIZE, SIZE))


def test_images_are_found_by_suffix_in_the_order_of_their_names(tmp_path):
    for name in (
        "._b.JPG",
        ".hidden.png",
        "b.JPG",
        "a/z.png",
        "a/b/c.WebP",
        "c.jpeg",
        "d.bmp",
        "notes.txt",
        "archive.jpg.zip",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in list_photos(tmp_path)]
    assert found == ["a/b/c.WebP", "a/z.png", "b.JPG", "c.jpeg", "d.bmp"]


def test_folders_without_images_are_refused_by_name(tmp_path):
    with pytest.raises(ImageError, match="absent does not exist"):
        list_photos(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(ImageError, match=rf"{tmp_path} holds no image \(.+\) but 1 files \.txt; put some there"):
        list_photos(tmp_path)


def test_the_digest_is_of_names_and_bytes(tmp_path):
    folder, moved = tmp_path / "photos", tmp_path / "elsewhere"
    for root in (folder, moved):
        root.mkdir()
        (root / "a.png").write_bytes(b"one")
        (root / "b.png").write_bytes(b"two")
    digest = digest_photos(list_photos(folder), folder)
    assert len(digest) == 64 and int(digest, 16)
    assert digest_photos(list_photos(moved), moved) == digest
    (moved / "b.png").write_bytes(b"twp")
    assert digest_photos(list_photos(moved), moved) != digest
    (moved / "b.png").write_bytes(b"two")
    (moved / "b.png").rename(moved / "c.png")
    assert digest_photos(list_photos(moved), moved) != digest
    assert digest_photos(list_photos(folder)[:1], folder) != digest
    with pytest.raises(ImageError, match=r"gone\.png cannot be read"):
        digest_photos([folder / "gone.png"], folder)


def test_an_image_is_prepared_as_for_the_imagenet_weights(tmp_path):
    gradient(640, 480).save(tmp_path / "photo.png")
    found = load_photo(tmp_path / "photo.png", 224)
    assert found.shape == (3, 224, 224) and found.dtype == np.float32
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()(gradient(640, 480)).numpy()
    np.testing.assert_array_equal(found, expected)
    # By hand: the short side becomes 256, so 224 of the 341 columns remain around the middle.
    red = (found[0, 112] * STD[0] + MEAN[0]) * 255
    np.testing.assert_allclose(red[[0, -1]], [255 * 58.5 / 341, 255 * 282.5 / 341], atol=2)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_formats_agree(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (50, 40), ORANGE).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_allclose(load_photo(path, SIZE), flat(ORANGE), atol=0.06)


@pytest.mark.filterwarnings("error")
def test_every_colour_mode_becomes_rgb(tmp_path):
    shape = (40, 50)
    palette = Image.new("RGB", shape, ORANGE).convert("P", palette=Image.Palette.ADAPTIVE)
    see_through = palette.copy()
    see_through.info["transparency"] = bytes([100] * 256)
    sixteen = Image.fromarray(np.full(shape, 120 * 257, np.uint16))
    saved = {
        "gray.png": (Image.new("L", shape, 120), (120,) * 3),
        "gray.jpg": (Image.new("L", shape, 120), (120,) * 3),
        "gray_alpha.png": (Image.new("LA", shape, (120, 9)), (120,) * 3),
        "sixteen_bits.png": (sixteen, (120,) * 3),
        "bit.png": (Image.new("1", shape, 1), (255,) * 3),
        "cmyk.jpg": (Image.new("CMYK", shape, (0, 128, 255, 0)), (255, 127, 0)),
        "rgba.png": (Image.new("RGBA", shape, (*ORANGE, 7)), ORANGE),
        "palette.png": (palette, ORANGE),
        "palette_alpha.png": (see_through, ORANGE),
    }
    for name, (image, colour) in saved.items():
        image.save(tmp_path / name)
        np.testing.assert_allclose(load_photo(tmp_path / name, SIZE), flat(colour), atol=0.06, err_msg=name)


def test_an_image_is_turned_upright(tmp_path):
    upright = gradient(60, 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    turned = load_photo(tmp_path / "turned.png", SIZE)
    np.testing.assert_allclose(turned, load_photo(tmp_path / "upright.png", SIZE), atol=0.02)
    assert turned[0, 32, -1] > turned[0, 32, 0] + 0.5


def test_bad_images_are_refused_by_name(tmp_path):
    gradient().save(tmp_path / "good.jpg")
    gradient().save(tmp_path / "good.png")
    load_photo(tmp_path / "good.jpg", SIZE)
    jpeg, png = (tmp_path / "good.jpg").read_bytes(), (tmp_path / "good.png").read_bytes()
    for name, content in {
        "text.jpg": b"this is not an image",
        "empty.jpg": b"",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "headless.jpg": jpeg[:20],
        "truncated.png": png[: len(png) // 2],
        "broken.png": png[:40] + bytes(30) + png[70:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=rf"{name} cannot be decoded \(.+\); remove or replace it") as caught:
            load_photo(tmp_path / name, SIZE)
        assert "BytesIO" not in str(caught.value)
    with pytest.raises(ImageError, match=r"absent\.jpg cannot be read \(No such file or directory\)"):
        load_photo(tmp_path / "absent.jpg", SIZE)


# What a calibration takes of a folder


def save_good(folder, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        gradient(90 + number).save(folder / f"{number:03}.png")


def test_what_is_used_and_what_is_not_is_told_by_reason_and_count(tmp_path):
    folder = tmp_path / "photos"
    save_good(folder, FEWEST)
    for number in range(50):
        (folder / f"{number}.HEIC").write_bytes(b"heic")
    for number in range(2):
        Image.new("RGB", (99, 99), (3 * number, 0, 0)).save(folder / f"black{number}.jpg")
        gradient(31, 40).save(folder / f"small{number}.png")
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:60])
    (folder / "._000.png").write_bytes(b"of macOS")
    (folder / "README").write_text("", encoding="utf-8")
    said: list[str] = []
    found = calibration_images({"method": "max", "images": str(folder), "count": 100}, said.append)
    assert {path.name for path in found.photos} == {f"{number:03}.png" for number in range(FEWEST)}
    assert len(np.concatenate(list(found.batches(SIZE)))) == found.count == FEWEST
    assert said[0] == f"calibration: {FEWEST} images of {folder} are used"
    told = "\n".join(said)
    for line in (
        "not used: 2 images nearly of one colour, such as black",
        "not used: 2 images with a side of under 32 pixels, such as small",
        "not used: 1 images that cannot be decoded, such as broken.png (The image ",
        "not used: 50 files .heic, a format that is not read",
        "not used: 1 files without a suffix, a format that is not read",
    ):
        assert line in told
    assert len(said) == 6


def test_a_choice_of_many_is_the_same_each_time_and_no_prefix(tmp_path):
    save_good(tmp_path, 40)
    first, second = (choose_photos(tmp_path, 20) for _ in range(2))
    assert first == second and len(set(first.used)) == 20
    assert "not used: 20 images more than were asked for (calibration.count)" in first.describe()
    assert sorted(first.used) != list_photos(tmp_path)[:20]


@pytest.mark.parametrize("describe", [True, False])
def test_too_few_images_are_refused_before_anything_runs(tmp_path, describe):
    save_good(tmp_path, 1)
    for number in range(50):
        (tmp_path / f"{number}.heic").write_bytes(b"heic")

    def calibrate(count: int) -> object:
        calibration = {"method": "max", "images": str(tmp_path), "count": count}
        return describe_calibration(calibration) if describe else calibration_images(calibration, lambda line: None)

    with pytest.raises(ImageError) as refused:
        calibrate(100)
    assert f"{tmp_path} has 1 images to calibrate on and at least {FEWEST} are needed (" in str(refused.value)
    assert "50 files .heic" in str(refused.value)
    assert calibrate(1)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_an_image_of_sixteen_bits_is_scaled_by_the_bits_that_it_holds(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 60 * 80).reshape(60, 80).astype(np.uint16)
    for number in range(FEWEST):
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    photo = open_photo(tmp_path / "0.png")
    assert (photo.bits, photo.container_bits) == (bits, 16)
    expected = Image.fromarray((values / 2 ** (bits - 8)).astype(np.uint8)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(photo.image), np.asarray(expected))
    told = f"{FEWEST} images of 16 bits hold {bits}-bit values, and are scaled by those"
    assert (told in choose_photos(tmp_path, 100).describe()) == (bits < 16)


def test_values_of_twelve_bits_that_a_decoder_made_black_are_not_calibrated_on(tmp_path):
    """Colour of 16 bits is read as its upper eight, in which 12-bit values take 16 levels."""
    dark = np.random.default_rng(0).integers(0, 16, (60, 80, 3), np.uint8)
    for number in range(FEWEST):
        Image.fromarray(dark).save(tmp_path / f"{number}.png")
    with pytest.raises(ImageError, match=f"{FEWEST} images nearly of one colour"):
        choose_photos(tmp_path, 100)


def test_attention_is_part_of_a_calibration_where_it_is_quantised(tmp_path):
    save_good(tmp_path, FEWEST)
    for images in ("procedural", str(tmp_path)):
        plain = {"method": "max", "images": images, "count": 8}
        assert describe_calibration(plain | {"attention": False}) == describe_calibration(plain)
        assert describe_calibration(plain | {"attention": True}) == describe_calibration(plain) | {"attention": True}
