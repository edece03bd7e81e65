"""timm's models, by their names (`timm:resnet10t`). timm is optional: `pip install timm`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from deepgap.errors import WeightsError, first_line
from deepgap.sources import Asked, Place, Source, registered_names

if TYPE_CHECKING:
    import torch


def build(asked: Asked) -> torch.nn.Module:
    """The model without trained weights, in eval mode."""
    return _create(asked, trained=False)


def pretrained(asked: Asked) -> torch.nn.Module:
    """The model with the weights of timm's default tag.

    Raises:
        WeightsError: they cannot be had, or are of another image size.
    """
    try:
        return _create(asked, trained=True)
    # The hub's client raises errors of several libraries.
    except Exception as error:
        raise WeightsError(
            f"The trained weights of timm:{asked.name} could not be had ({first_line(error)}); give the path of a "
            "state dict as its weights, or set them to 'seeded' in config/config.yaml."
        ) from None


def _create(asked: Asked, trained: bool) -> torch.nn.Module:
    import timm

    # Only models whose layers depend on the image size take it.
    size: dict[str, Any] = {"img_size": asked.image_size}
    try:
        model: torch.nn.Module = timm.create_model(asked.name, pretrained=trained, **size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        model = timm.create_model(asked.name, pretrained=trained)
    return model.eval()


@cache
def names() -> tuple[str, ...]:
    """All models of the installed timm; none where it is not installed."""
    return registered_names("timm", "models")


SOURCE = Source(
    version=1,
    form="timm:NAME",
    locate=lambda text: Place(None, text),
    key=lambda place: f"timm.{place.name}",
    build=build,
    pretrained=pretrained,
    names=names,
    library="timm",
)
