"""Which images of a folder a network is calibrated on, and why the others are not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepgap.build.images.photos import SUFFIXES, Photo, list_photos, open_photo, other_suffixes
from deepgap.errors import ImageError

FEWEST = 8
"""Scales of fewer images, unless the study asks for fewer, hang on the odd one among them."""

SMALLEST_SIDE = 32
"""Pixels; of smaller images almost all that the network sees is interpolation."""

LEAST_SPREAD = 0.02
"""Standard deviation of the channel that varies most, in parts of white: 5 of 255 levels. Fog has twice as much."""

TOO_SMALL = f"with a side of under {SMALLEST_SIDE} pixels"
CONSTANT = "nearly of one colour"
UNDECODED = "that cannot be decoded"


@dataclass(frozen=True)
class Choice:
    """The images that are used, and how many are not, by reason.

    left_out: (image, reason, more about it) of those that were looked at.
    suffixes: files of each suffix that is not read.
    unseen: images beyond the count that was asked for.
    shallow: images of 16 bits a pixel that hold fewer, by their bits.
    """

    folder: Path
    used: tuple[Path, ...]
    left_out: tuple[tuple[Path, str, str], ...]
    suffixes: dict[str, int]
    unseen: int
    shallow: dict[int, int]

    def describe(self) -> list[str]:
        """A line for what is used, and one for each reason for which others are not."""
        return [f"calibration: {len(self.used)} images of {self.folder} are used", *self._reasons(), *self._depths()]

    def _reasons(self) -> Iterator[str]:
        if self.unseen:
            yield f"not used: {self.unseen} images more than were asked for (calibration.count)"
        for reason in dict.fromkeys(reason for _, reason, _ in self.left_out):
            found = [(path, more) for path, kind, more in self.left_out if kind == reason]
            path, more = found[0]
            yield f"not used: {len(found)} images {reason}, such as {path.name}{more and f' ({more})'}"
        for suffix, count in self.suffixes.items():
            yield f"not used: {count} files {suffix or 'without a suffix'}, a format that is not read"

    def _depths(self) -> Iterator[str]:
        for bits, count in self.shallow.items():
            yield f"{count} images of 16 bits hold {bits}-bit values, and are scaled by those"


def choose_photos(folder: Path, count: int) -> Choice:
    """The first `count` images of a seeded random order that can be used.

    Raises:
        ImageError: a file cannot be read, or fewer than `FEWEST` images, or than `count`, can be used; the sentence
            says why not the others.
    """
    photos = list_photos(folder)
    waiting = random.Random(0).sample(photos, len(photos))
    used: list[Path] = []
    left_out: list[tuple[Path, str, str]] = []
    shallow: dict[int, int] = {}
    while waiting and len(used) < count:
        path = waiting.pop(0)
        try:
            photo = open_photo(path)
        except ImageError as error:
            left_out.append((path, UNDECODED, str(error)))
            continue
        reason = _unfit(photo)
        if reason:
            left_out.append((path, reason, ""))
            continue
        used.append(path)
        if photo.bits < photo.container_bits:
            shallow[photo.bits] = shallow.get(photo.bits, 0) + 1
    choice = Choice(folder, tuple(used), tuple(left_out), other_suffixes(folder), len(waiting), shallow)
    check_enough(choice.used, count, folder, "; ".join(choice.describe()[1:]))
    return choice


def check_enough(photos: Sequence[Path], count: int, folder: Path, others: str) -> None:
    """Refuse to calibrate on too few images.

    Args:
        count: how many the study asks for.
        others: what else the folder holds and why it is not used, for the sentence.

    Raises:
        ImageError: there are fewer than `FEWEST`, and than `count`.
    """
    needed = min(count, FEWEST)
    if len(photos) < needed:
        raise ImageError(
            f"The image folder {folder} has {len(photos)} images to calibrate on and at least {needed} are needed"
            f"{others and f' ({others})'}; add images in a format that is read ({', '.join(SUFFIXES)}), remove or "
            "replace the others, or ask for fewer by calibration.count."
        )


def _unfit(photo: Photo) -> str:
    """Why an image is not calibrated on; empty where it is."""
    if min(photo.image.size) < SMALLEST_SIDE:
        return TOO_SMALL
    spread = (np.asarray(photo.image, np.float32) / 255).std(axis=(0, 1)).max()
    return CONSTANT if spread < LEAST_SPREAD else ""
