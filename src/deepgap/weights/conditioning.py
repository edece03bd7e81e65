"""Random weights that behave like trained ones, for any classifier.

Freshly initialised networks give every image the same class, and activations of residual ones grow with depth until
FP16 overflows. Four steps prevent it, each where the network has what it changes: a small last BatchNorm gamma in
each residual block; layer scales at which blocks matter; BatchNorm statistics estimated on procedural images; and a
ridge-regression classifier on their features (Bishop, Pattern Recognition and Machine Learning, eq. 3.28), which
gives each precision a real accuracy to lose. What comes out is checked by `largest_magnitude`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deepgap.errors import UnsupportedError
from deepgap.weights.textures import CLASSES, texture_images

if TYPE_CHECKING:
    import torch

RESIDUAL_GAMMA = 0.1
LAYER_SCALE = 1.0
"""At 1e-6, where ConvNeXt starts, no block changes its input by more than rounding does."""
SMALL_SCALE = 1e-2
"""Layer scales below this are of a fresh network that was made to start as the identity."""
SCALE_NAMES = ("layer_scale", "gamma", "gamma1", "gamma2", "gamma_1", "gamma_2")

STATISTICS_IMAGES = 64
HEAD_IMAGES = 400
RANGE_IMAGES = 16
RANGE_SEED = 20_000
RIDGE = 0.2
BATCH = 16
"""Images that are drawn at once, and whose statistics a BatchNorm sees together."""
SLICE = 4
"""Images in one run where none depends on another: activations of so few stay in the processor's cache."""


def condition(model: torch.nn.Module, name: str, seed: int, image_size: int, say: Callable[[str], None]) -> None:
    """Change the fresh weights of a classifier in place so that they behave like trained ones.

    Args:
        model: in eval mode, made from torch's global generator with the same seed; takes float32 images of shape
            (n, 3, image_size, image_size) and gives logits of shape (n, classes).
        name: for what it says of its progress.

    Raises:
        UnsupportedError: the model does not take such images or give such logits, or no layer of it can be fitted.
    """
    import torch

    _soften_residuals(model)
    _open_layer_scales(model)
    with torch.inference_mode():
        _estimate_statistics(model, name, seed, image_size, say)
        _fit_classifier(model, name, seed, image_size, say)


def check_logits(logits: object, images: int) -> torch.Tensor:
    """The logits that a classifier gave to some images.

    Raises:
        UnsupportedError: they are not a tensor of shape (images, classes).
    """
    import torch

    if not isinstance(logits, torch.Tensor):
        raise UnsupportedError(f"The model returns {type(logits).__name__} and not a tensor of (images, classes).")
    if logits.ndim != 2 or logits.shape[0] != images:
        raise UnsupportedError(
            f"The model returns a tensor of shape {tuple(logits.shape)} for {images} images, not (images, classes)."
        )
    return logits


def largest_magnitude(model: torch.nn.Module, seed: int, image_size: int) -> float:
    """The largest absolute value that any module of a model gives to procedural and to random normal images.

    Raises:
        UnsupportedError: the model gives no logits, or a value is not finite.
    """
    import torch

    largest = 0.0

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            # Not abs(), which would make a tensor.
            low, high = map(float, output.aminmax())
            found = max(-low, high)
            if not math.isfinite(found):
                raise UnsupportedError(f"The model gives values that are not finite, in {type(module).__name__}.")
            largest = max(largest, found)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.inference_mode():
            shape = (RANGE_IMAGES, 3, image_size, image_size)
            random = torch.randn(shape, generator=torch.Generator().manual_seed(seed + RANGE_SEED))
            procedural = texture_images(torch.arange(RANGE_IMAGES) % CLASSES, seed + RANGE_SEED, image_size)
            for images in (*torch.split(procedural, SLICE), *torch.split(random, SLICE)):
                check_logits(_call(model, images), len(images))
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def _call(model: torch.nn.Module, images: torch.Tensor) -> Any:
    try:
        return model(images)
    except UnsupportedError:
        raise
    # It may be the user's code, which raises anything.
    except Exception as error:
        raise UnsupportedError(
            f"The model cannot run images of shape {tuple(images.shape)}: {' '.join(str(error).split())[:200]}."
        ) from None


def _soften_residuals(model: torch.nn.Module) -> None:
    """Let every residual block that is known add little to what passes by it."""
    import torch

    for module in model.modules():
        gamma = _last_gamma(module)
        if gamma is not None:
            torch.nn.init.constant_(gamma, RESIDUAL_GAMMA)


def _last_gamma(module: torch.nn.Module) -> torch.Tensor | None:
    """The weight of the last BatchNorm on the branch of a residual block; null for any other module."""
    import torch

    norm: Any = None
    kind = type(module).__name__
    if kind in ("BasicBlock", "Bottleneck"):
        # torchvision's and timm's ResNets.
        norm = getattr(module, "bn3", getattr(module, "bn2", None))
    elif getattr(module, "use_res_connect", False):
        # torchvision's MobileNets and EfficientNets: the branch is all that the block has.
        norms = [inner for inner in module.modules() if isinstance(inner, torch.nn.BatchNorm2d)]
        norm = norms[-1] if norms else None
    elif kind == "ResBottleneckBlock":
        # torchvision's RegNets: `f.c` is the last convolution with its BatchNorm.
        norm = module.f.c[1]  # type: ignore[union-attr, index]
    weight = getattr(norm, "weight", None)
    return weight if isinstance(weight, torch.Tensor) else None


def _open_layer_scales(model: torch.nn.Module) -> None:
    """Set layer scales (Touvron et al., ICCV 2021, eq. 4) that start near zero to `LAYER_SCALE`."""
    import torch

    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in SCALE_NAMES and float(parameter.detach().abs().max()) < SMALL_SCALE:
            torch.nn.init.constant_(parameter, LAYER_SCALE)


def _estimate_statistics(
    model: torch.nn.Module, name: str, seed: int, image_size: int, say: Callable[[str], None]
) -> None:
    """Set the mean and variance of every BatchNorm to those of procedural images; the rest stays in eval mode."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    say(f"{name}: estimating BatchNorm statistics on {STATISTICS_IMAGES} procedural images")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # The plain mean over all batches.
        norm.momentum = None
        norm.train()
    labels = torch.arange(STATISTICS_IMAGES) % CLASSES
    for start in range(0, STATISTICS_IMAGES, BATCH):
        _call(model, texture_images(labels[start : start + BATCH], seed + start, image_size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _fit_classifier(
    model: torch.nn.Module, name: str, seed: int, image_size: int, say: Callable[[str], None]
) -> None:
    """Fit the last layer that makes as many outputs as there are classes, on what procedural images give it."""
    import torch

    labels = torch.arange(HEAD_IMAGES) % CLASSES
    batches = [
        (start, labels[start : start + BATCH], seed + 10_000 + start) for start in range(0, HEAD_IMAGES, BATCH)
    ]
    head, classes = _find_head(model, texture_images(labels[:2], batches[0][2], image_size))
    features: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        # A convolution of one tap classifies each pixel, and their mean as well.
        features.append(inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0].clone())

    hook = head.register_forward_pre_hook(keep)
    try:
        for start, chosen, image_seed in batches:
            for images in torch.split(texture_images(chosen, image_seed, image_size), SLICE):
                model(images)
            if start % (8 * BATCH) == 0:
                say(f"{name}: fitting the classifier, {start} of {HEAD_IMAGES} images")
    finally:
        hook.remove()
    fit_head(head, torch.cat(features), labels % classes)


def _find_head(model: torch.nn.Module, images: torch.Tensor) -> tuple[torch.nn.Linear | torch.nn.Conv2d, int]:
    """The layer that ran last of those that make one output a class, and the number of classes.

    Raises:
        UnsupportedError: there is none that sees one row, or one image of features, for each image.
    """
    import torch

    ran: list[torch.nn.Linear | torch.nn.Conv2d] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        is_linear = isinstance(module, torch.nn.Linear) and inputs[0].ndim == 2
        is_tap = isinstance(module, torch.nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        if (is_linear or is_tap) and len(inputs[0]) == len(images):
            ran.append(module)  # type: ignore[arg-type]

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        classes = check_logits(_call(model, images), len(images)).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    if classes < 2:
        raise UnsupportedError(f"The model gives {classes} logit an image, which is no classifier.")
    for layer in reversed(ran):
        if (layer.out_features if isinstance(layer, torch.nn.Linear) else layer.out_channels) == classes:
            return layer, classes
    raise UnsupportedError(
        f"No linear layer of the model gives its {classes} classes, so that its random weights cannot be made to "
        "classify; give it trained weights."
    )


def fit_head(head: torch.nn.Linear | torch.nn.Conv2d, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Set a linear layer to the ridge regression of one-hot labels on features of shape (n, d)."""
    import torch

    classes = head.weight.shape[0]
    mean = features.mean(0)
    centred = (features - mean).double()
    targets = torch.nn.functional.one_hot(labels, classes).double()
    offset = targets.mean(0)
    ridge = RIDGE * centred.square().sum(1).mean()
    gram = centred @ centred.T + ridge * torch.eye(len(centred), dtype=torch.float64)
    weight = (torch.linalg.solve(gram, targets - offset).T @ centred).float()
    head.weight.copy_(weight.reshape(head.weight.shape))
    if head.bias is not None:
        head.bias.copy_(offset.float() - weight @ mean)
