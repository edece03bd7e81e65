"""A folder of the user's own images, for calibration on what a network will see."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepgap.errors import ImageError, first_line
from deepgap.files import is_litter, refuse_unreadable

if TYPE_CHECKING:
    from PIL import Image

LONGEST_SIDE = 100
"""Times the short side: resized, a longer image would need gigabytes."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

DEPTHS = (10, 12)
"""Bits of camera sensors, whose values are kept in files of 16 bits a pixel as they are."""


@dataclass(frozen=True)
class Photo:
    """A decoded image, 8-bit RGB, and the bits a channel that its values take and that its file has room for."""

    image: Image.Image
    bits: int = 8
    container_bits: int = 8


def list_photos(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, by their suffix, sorted by their names within the folder.

    Hidden files are none, among them macOS's `._photo.jpg`.

    Raises:
        ImageError: there is no such folder, or no image in it, or it cannot be read.
    """
    paths = [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]
    if not paths:
        others = ", ".join(
            f"{count} files {suffix or 'without one'}" for suffix, count in other_suffixes(folder).items()
        )
        raise ImageError(
            f"The image folder {folder} holds no image ({', '.join(SUFFIXES)}){others and f' but {others}'}; "
            "put some there."
        )
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def other_suffixes(folder: Path) -> dict[str, int]:
    """How many files of a folder have each suffix that is not read, the most frequent first.

    Raises:
        ImageError: there is no such folder, or it cannot be read.
    """
    suffixes = (path.suffix.lower() for path in _files(folder))
    return dict(Counter(sorted(suffix for suffix in suffixes if suffix not in SUFFIXES)).most_common())


def describe_suffixes(folder: Path) -> str:
    """`other_suffixes` in words: `50 files .heic, 1 files without a suffix`."""
    return ", ".join(
        f"{count} files {suffix or 'without a suffix'}" for suffix, count in other_suffixes(folder).items()
    )


def _files(folder: Path) -> Iterator[Path]:
    try:
        if not folder.is_dir():
            raise ImageError(f"The image folder {folder} does not exist or is a file; make it, or name another.")
        for path in folder.rglob("*"):
            if not path.name.startswith(".") and _is_listed(path):
                yield path
    except (OSError, ValueError) as error:
        raise ImageError(f"The image folder {folder} cannot be read ({first_line(error)}); name another.") from None


def digest_photos(paths: Sequence[Path], folder: Path) -> str:
    """SHA-256 over the names within the folder and the bytes of images, 64 hex digits.

    Raises:
        ImageError: an image cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(_read(path)).hexdigest()
        # A name need not be valid UTF-8.
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + f"\0{content}\n".encode())
    return digest.hexdigest()


def open_photo(path: Path) -> Photo:
    """Decode an image, turn it upright by its EXIF tag and convert it to RGB.

    Raises:
        ImageError: the file is missing, truncated, not an image, or one that cannot be resized.
    """
    from PIL import Image, ImageOps

    content = io.BytesIO(_read(path))
    try:
        with Image.open(content) as image:
            if max(image.size) > LONGEST_SIDE * min(image.size):
                raise ValueError(f"one side is over {LONGEST_SIDE} times the other")
            return _rgb(ImageOps.exif_transpose(image))
    # Pillow's decoders raise almost anything on a damaged file.
    except Exception as error:
        reason = first_line(error).replace(f" {content!r}", "")
        raise ImageError(f"The image {path} cannot be decoded ({reason}); remove or replace it.") from None


def load_photo(path: Path, image_size: int) -> np.ndarray:
    """Decode an image and prepare it as for torchvision's ImageNet weights (IMAGENET1K_V1).

    Its short side is resized to 256 pixels, its centre is cropped, and its channels are normalised.

    Returns:
        float32 of shape (3, image_size, image_size).

    Raises:
        ImageError: as `open_photo`.
    """
    from torchvision.models import ResNet50_Weights

    prepare = ResNet50_Weights.IMAGENET1K_V1.transforms(crop_size=image_size)
    pixels: np.ndarray = prepare(open_photo(path).image).numpy()
    return pixels


def _rgb(image: Image.Image) -> Photo:
    """Opaque 8-bit RGB of any mode."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip these to 255.
        values = np.asarray(image)
        bits = next((depth for depth in DEPTHS if values.max() < 1 << depth), 16)
        return Photo(Image.fromarray((values >> bits - 8).astype(np.uint8)).convert("RGB"), bits, 16)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers, mode {image.mode}")
    if image.mode == "P":
        # Pillow warns when transparent entries of a palette are dropped in one step.
        image = image.convert("RGBA")
    return Photo(image.convert("RGB"))


def _is_listed(path: Path) -> bool:
    """Whether a path is a file, or a link to nothing, which must be told and not left out."""
    if is_litter(path):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        refuse_unreadable(path, error)
        raise ImageError(f"The image {path} cannot be read ({error.strerror}); remove or replace it.") from None
