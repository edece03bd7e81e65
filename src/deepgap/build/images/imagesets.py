"""The images that a network is calibrated on, and those that its answers are checked on. They never overlap."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.build.images.photos import digest_photos, list_photos, load_photo
from deepgap.build.images.textures import CLASSES
from deepgap.errors import ImageError, first_line
from deepgap.files import put_in_place, refuse_unreadable

PROCEDURAL = "procedural"
CALIBRATION_SEED = 1_000_000
HELD_OUT_SEED = 2_000_000
BATCH = 16


def describe_calibration(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """The `calibration` of the config as a recipe: a folder is told by its content, not by its path.

    Raises:
        ImageError: the folder is missing, empty or unreadable.
    """
    if calibration["images"] == PROCEDURAL:
        return dict(calibration)
    folder = Path(calibration["images"])
    photos = list_photos(folder)
    return {
        "method": calibration["method"],
        "images": "folder",
        "sha256": digest_photos(photos, folder),
        "count": min(calibration["count"], len(photos)),
    }


def calibration_batches(calibration: Mapping[str, Any], image_size: int) -> Iterator[np.ndarray]:
    """The images of the config's `calibration`, float32 batches of shape (n, 3, image_size, image_size).

    Of a folder with more images than asked for, a seeded random choice.

    Raises:
        ImageError: a file of the folder is not an image.
    """
    count = calibration["count"]
    if calibration["images"] == PROCEDURAL:
        for start in range(0, count, BATCH):
            yield _textures(start, min(count, start + BATCH), CALIBRATION_SEED, image_size)[0]
        return
    photos = list_photos(Path(calibration["images"]))
    chosen = photos if len(photos) <= count else random.Random(0).sample(photos, count)
    for start in range(0, len(chosen), BATCH):
        yield np.stack([load_photo(photo, image_size) for photo in chosen[start : start + BATCH]])


def write_held_out(path: Path, count: int, image_size: int) -> None:
    """Write procedural images and their labels as an .npz: `images` float16 (count, 3, size, size), `labels` int64.

    They are float16 so that every precision gets the same values.
    """
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

    from deepgap.build.images.textures import texture_images

    labels = torch.arange(start, stop) % CLASSES
    return texture_images(labels, seed + start, image_size).numpy(), labels.numpy()
