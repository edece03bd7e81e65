"""The images that a network is calibrated on, and those that its answers are checked on. They never overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.build.images.choice import check_enough, choose_photos
from deepgap.build.images.labelled import draw_labelled
from deepgap.build.images.photos import describe_suffixes, digest_photos, list_photos, load_photo
from deepgap.errors import ImageError, first_line
from deepgap.files import put_in_place, refuse_unreadable
from deepgap.weights.textures import CLASSES

PROCEDURAL = "procedural"
CALIBRATION_SEED = 1_000_000
HELD_OUT_SEED = 2_000_000
BATCH = 16


def describe_calibration(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """The `calibration` of the config as a recipe: a folder is told by its content, not by its path.

    The count of a folder's images is the most that are used; attention is told where it is quantised.

    Raises:
        ImageError: the folder is missing, unreadable, or holds too few images.
    """
    if calibration["images"] == PROCEDURAL:
        return {key: value for key, value in calibration.items() if key != "attention" or value}
    folder = Path(calibration["images"])
    photos = list_photos(folder)
    others = describe_suffixes(folder)
    check_enough(photos, calibration["count"], folder, others and f"{others} are not read")
    return {
        "method": calibration["method"],
        "images": "folder",
        "sha256": digest_photos(photos, folder),
        "count": min(calibration["count"], len(photos)),
        **({"attention": True} if calibration.get("attention") else {}),
    }


@dataclass(frozen=True)
class CalibrationImages:
    """Images to calibrate on: `count` procedural ones, or files that can all be decoded."""

    count: int
    photos: tuple[Path, ...] = ()

    def batches(self, image_size: int) -> Iterator[np.ndarray]:
        """Float32 batches of shape (n, 3, image_size, image_size), the same at each call.

        Raises:
            ImageError: a file changed since it was chosen.
        """
        for start in range(0, self.count, BATCH):
            stop = min(self.count, start + BATCH)
            if self.photos:
                yield np.stack([load_photo(photo, image_size) for photo in self.photos[start:stop]])
            else:
                yield _textures(start, stop, CALIBRATION_SEED, image_size)[0]


def calibration_images(calibration: Mapping[str, Any], say: Callable[[str], None]) -> CalibrationImages:
    """The images of the config's `calibration`; of a folder, a seeded random choice of those that can be used.

    Args:
        say: takes a line for what is used, and one for each reason for which other files are not.

    Raises:
        ImageError: the folder is unreadable, or too few of its images can be used.
    """
    count = calibration["count"]
    if calibration["images"] == PROCEDURAL:
        say(f"calibration: {count} procedural images are used")
        return CalibrationImages(count)
    choice = choose_photos(Path(calibration["images"]), count)
    for line in choice.describe():
        say(line)
    return CalibrationImages(len(choice.used), choice.used)


def write_held_out(path: Path, count: int, image_size: int, folder: Path | None = None) -> None:
    """Write images and their labels as an .npz: `images` float16 (n, 3, size, size), `labels` int64 (n,).

    They are float16 so that every precision gets the same values.

    Args:
        count: how many; the most of them where they come from a folder.
        folder: the user's labelled images, one subfolder a class; null for procedural ones.

    Raises:
        ImageError: the folder or an image in it cannot be used.
    """
    if folder is not None:
        photos, classes = draw_labelled(folder, count, image_size)
        write_arrays(path, images=photos, labels=classes)
        return
    parts = [
        _textures(start, min(count, start + BATCH), HELD_OUT_SEED, image_size) for start in range(0, count, BATCH)
    ]
    write_arrays(
        path,
        images=np.concatenate([images for images, _ in parts]).astype(np.float16),
        labels=np.concatenate([labels for _, labels in parts]),
    )


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz in one step."""
    with put_in_place(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """These arrays of an .npz.

    Raises:
        ImageError: the file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; run Snakemake to make it.") from None
    # zipfile and numpy raise almost anything on a damaged archive.
    except Exception as error:
        refuse_unreadable(path, error)
        raise ImageError(
            f"{path} is damaged or foreign ({first_line(error)}); delete it and run Snakemake again."
        ) from None


def _textures(start: int, stop: int, seed: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from deepgap.weights.textures import texture_images

    labels = torch.arange(start, stop) % CLASSES
    return texture_images(labels, seed + start, image_size).numpy(), labels.numpy()
