"""A folder of the user's own images, for calibration on what a network will see."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
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


def list_photos(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, by their suffix, sorted by their names within the folder.

    Raises:
        ImageError: there is no such folder, or no image in it, or it cannot be read.
    """
    try:
        if not folder.is_dir():
            raise ImageError(f"The image folder {folder} does not exist or is a file; make it, or name another.")
        paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _is_listed(path)]
    except (OSError, ValueError) as error:
        raise ImageError(f"The image folder {folder} cannot be read ({first_line(error)}); name another.") from None
    if not paths:
        raise ImageError(f"The image folder {folder} holds no image ({', '.join(SUFFIXES)}); put some there.")
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


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


def load_photo(path: Path, image_size: int) -> np.ndarray:
    """Decode an image and prepare it as for torchvision's ImageNet weights (IMAGENET1K_V1).

    It is turned upright by its EXIF tag and converted to RGB, its short side is resized to 256 pixels, its centre
    is cropped, and its channels are normalised.

    Returns:
        float32 of shape (3, image_size, image_size).

    Raises:
        ImageError: the file is missing, truncated, not an image, or one that cannot be resized.
    """
    from PIL import Image, ImageOps
    from torchvision.models import ResNet50_Weights

    content = io.BytesIO(_read(path))
    try:
        with Image.open(content) as image:
            if max(image.size) > LONGEST_SIDE * min(image.size):
                raise ValueError(f"one side is over {LONGEST_SIDE} times the other")
            upright = _rgb(ImageOps.exif_transpose(image))
    # Pillow's decoders raise almost anything on a damaged file.
    except Exception as error:
        reason = first_line(error).replace(f" {content!r}", "")
        raise ImageError(f"The image {path} cannot be decoded ({reason}); remove or replace it.") from None
    prepare = ResNet50_Weights.IMAGENET1K_V1.transforms(crop_size=image_size)
    pixels: np.ndarray = prepare(upright).numpy()
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    """Opaque 8-bit RGB of any mode."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip these to 255.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers, mode {image.mode}")
    if image.mode == "P":
        # Pillow warns when transparent entries of a palette are dropped in one step.
        image = image.convert("RGBA")
    return image.convert("RGB")


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
