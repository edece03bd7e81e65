"""The user's labelled images: one subfolder a class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepgap.build.images.imagesets import write_held_out
from deepgap.build.images.labelled import describe_accuracy, list_labelled
from deepgap.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    """Seven cats, five dogs, and a class without images between them."""
    root = tmp_path / "labelled"
    for name, count, colour in (("cat", 7, (200, 10, 10)), ("cow", 0, (0, 0, 0)), ("dog", 5, (10, 10, 200))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (40, 30), colour).save(root / name / f"{number}.png")
    return root


def test_classes_are_numbered_in_the_order_of_their_names(folder):
    assert [entry.label for entry in list_labelled(folder)] == [0] * 7 + [2] * 5
    about = describe_accuracy({"images": str(folder)})
    assert (about["classes"], about["count"], about["images"]) == (3, 12, "folder")


def test_the_recipe_is_of_the_content_and_the_classes(folder, tmp_path):
    before = describe_accuracy({"images": str(folder)})
    folder.rename(tmp_path / "moved")
    assert describe_accuracy({"images": str(tmp_path / "moved")}) == before
    (tmp_path / "moved/cat/0.png").rename(tmp_path / "moved/dog/9.png")
    assert describe_accuracy({"images": str(tmp_path / "moved")}) != before


def test_held_out_images_are_the_folders_with_their_labels(folder, tmp_path):
    write_held_out(tmp_path / "images.npz", 8, 32, folder)
    with np.load(tmp_path / "images.npz") as found:
        images, labels = found["images"], found["labels"]
    assert images.shape == (8, 3, 32, 32) and images.dtype == np.float16 and labels.dtype == np.int64
    # Red ones are cats.
    assert [int(image[0].mean() < image[2].mean()) * 2 for image in images] == labels.tolist()
    write_held_out(tmp_path / "all.npz", 100, 32, folder)
    with np.load(tmp_path / "all.npz") as found:
        assert len(found["labels"]) == 12


def test_folders_that_tell_no_accuracy_are_refused(folder, tmp_path):
    with pytest.raises(ImageError, match="absent does not exist"):
        list_labelled(tmp_path / "absent")
    for name in ("0", "1", "2"):
        (folder / f"cat/{name}.png").unlink()
    with pytest.raises(ImageError, match=r"holds 9 images in 3 subfolders; for an accuracy it needs 10"):
        list_labelled(folder)
    Image.new("RGB", (4, 4)).save(folder / "loose.png")
    with pytest.raises(ImageError, match=r"holds loose\.png, which is in none of its subfolders"):
        list_labelled(folder)
