"""The weights that every mode of a model shares: made here, or taken from where the config says."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.errors import ConfigError, UnsupportedError, WeightsError, first_line
from deepgap.files import put_in_place, unreadable
from deepgap.sources import Asked, load_source
from deepgap.study.models import FILE, GRAPH, PRETRAINED, SEEDED, ModelSpec
from deepgap.weights.conditioning import condition, largest_magnitude

if TYPE_CHECKING:
    import torch

FP16_LARGEST = 65_504
FP16_MARGIN = 4
"""The largest activation that is seen must stay this many times below FP16's largest number: other images differ."""

RANGE_SEED = 0
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Keys under which training scripts save a state dict among other things."""

IN_PYTORCH = "The model is given as an ONNX graph, which PyTorch does not run."


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    spec: the model that they are of.
    state: the state dict; empty where the model has none.
    largest: the largest absolute activation on some images.
    unsupported: why no mode can run the model in PyTorch; null where all is well.
    """

    spec: ModelSpec
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    largest: float | None = None
    unsupported: str | None = None


def build_weights(spec: ModelSpec, say: Callable[[str], None]) -> Weights:
    """The weights of a model. What cannot be built or conditioned becomes weights that say so.

    Raises:
        WeightsError: the trained weights cannot be had, or a file of weights is not of this model.
        ConfigError: the library of the model is not installed.
    """
    source = load_source(spec.kind)
    if not source.is_installed:
        raise ConfigError(f"The model {spec.key} needs {source.library}, which is not installed; install it.")
    if spec.weights["source"] == GRAPH:
        return Weights(spec, unsupported=IN_PYTORCH)
    try:
        model = _make(spec, say)
        largest = largest_magnitude(model, RANGE_SEED, spec.image_size)
    except UnsupportedError as error:
        return Weights(spec, unsupported=str(error))
    say(f"{spec.key}: the largest activation is {largest:.3g}")
    return Weights(spec, model.state_dict(), largest)


def _make(spec: ModelSpec, say: Callable[[str], None]) -> torch.nn.Module:
    import torch

    source, asked = load_source(spec.kind), asked_of(spec)
    assert source.build is not None and source.pretrained is not None
    if spec.weights["source"] == PRETRAINED:
        return source.pretrained(asked)
    torch.manual_seed(spec.weights.get("seed", 0))
    model = _build(spec)
    if spec.weights["source"] == SEEDED:
        condition(model, spec.key, spec.weights["seed"], spec.image_size, say)
    else:
        assert spec.weights["source"] == FILE and spec.weights_file is not None
        fit_state(model, read_state(Path(spec.weights_file)), spec.weights_file, spec.key)
    return model


def _build(spec: ModelSpec) -> torch.nn.Module:
    """The model of a spec in eval mode with the weights that its builder gives it.

    Raises:
        UnsupportedError: the builder fails.
    """
    source = load_source(spec.kind)
    assert source.build is not None
    try:
        return source.build(asked_of(spec))
    except UnsupportedError:
        raise
    # A library's builder raises anything for an image size that its model cannot have.
    except Exception as error:
        raise UnsupportedError(
            f"{spec.key} cannot be built for images of {spec.image_size} pixels: {first_line(error)}."
        ) from None


def asked_of(spec: ModelSpec) -> Asked:
    """What a source is asked for."""
    file = Path(spec.file) if spec.file else None
    return Asked(spec.name, spec.image_size, file, trained=spec.weights["source"] == PRETRAINED)


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file of PyTorch (read with `weights_only`) or safetensors, alone or in a checkpoint.

    Raises:
        WeightsError: the file is missing, damaged, not of weights, or safetensors is not installed.
    """
    import torch

    try:
        if file.suffix == ".safetensors":
            state: Any = _read_safetensors(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"The weights {file} cannot be read ({error.strerror or first_line(error)}).") from None
    except WeightsError:
        raise
    # A cut archive, a page of HTML and a pickle of other things raise errors of many kinds.
    except Exception as error:
        reason = "it is no archive of tensors" if type(error).__name__ == "UnpicklingError" else first_line(error)
        raise WeightsError(
            f"The weights {file} are damaged or not a state dict ({reason}); replace the file."
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"The weights {file} are not a state dict, tensors by their names; replace the file.")
    # Wrapped in DataParallel.
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise WeightsError(
            f"The weights {file} need safetensors, which is not installed; run 'pip install safetensors'."
        ) from None
    state: dict[str, torch.Tensor] = load_file(file)
    return state


def fit_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor], file: str, name: str) -> None:
    """Load a state dict whose names and shapes are the model's.

    Raises:
        WeightsError: they are not; the sentence names the first difference.
    """
    own = model.state_dict()
    # Counters that some checkpoints lack, and that eval mode does not read.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or extra or shapes:
        if shapes:
            key = shapes[0]
            told = f"{key} has the shape {tuple(state[key].shape)} and not {tuple(own[key].shape)}"
        else:
            told = f"it lacks {missing[0]}" if missing else f"{extra[0]} is not in the model"
        raise WeightsError(f"The weights {file} are not of {name}: {told}; name another file.")
    model.load_state_dict(dict(state), strict=False)


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of a state dict, whatever file held it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_weights(file: Path, weights: Weights) -> None:
    """Write weights in one step; `read_weights` reads them."""
    import torch

    content = io.BytesIO()
    about = {"spec": weights.spec.request, "largest": weights.largest, "unsupported": weights.unsupported}
    # Through memory, because torch.save does not say that a disk is full.
    torch.save({"about": about, "state": dict(weights.state)}, content)
    with put_in_place(file) as partial:
        partial.write_bytes(content.getbuffer())


def read_weights(file: Path) -> Weights:
    """Weights that `save_weights` wrote.

    Raises:
        WeightsError: the file is missing, unreadable or none of this project.
    """
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        about = content["about"]
        return Weights(ModelSpec(**about["spec"]), content["state"], about["largest"], about["unsupported"])
    except FileNotFoundError:
        raise WeightsError(f"The weights {file} are missing; run Snakemake to build them.") from None
    except OSError as error:
        raise WeightsError(unreadable(file, error)) from None
    except Exception as error:
        raise WeightsError(f"{file} does not hold weights ({first_line(error)}); delete it.") from None


def load_model(name: str, file: Path, precision: str = "fp32") -> tuple[torch.nn.Module, str]:
    """The model of a file of weights, in eval mode on the CPU in float32, and the hash of the weights.

    Args:
        name: the model's key.
        precision: in which the model will run.

    Raises:
        WeightsError: the file is missing, unreadable or of another model.
        UnsupportedError: the model cannot run in PyTorch, or not in this precision.
    """
    weights = read_weights(file)
    if weights.spec.key != name:
        raise WeightsError(f"{file} does not hold weights of {name} but of {weights.spec.key}; delete it.")
    if weights.unsupported is not None:
        raise UnsupportedError(weights.unsupported)
    check_range(weights, precision)
    model = _build(weights.spec)
    try:
        model.load_state_dict(dict(weights.state))
    except RuntimeError as error:
        raise WeightsError(f"{file} does not hold weights of {name} ({first_line(error)}); delete it.") from None
    return model.eval(), hash_weights(weights.state)


def check_range(weights: Weights, precision: str) -> None:
    """Refuse FP16 where activations come near its largest number.

    Raises:
        UnsupportedError: with the largest activation.
    """
    if precision == "fp16" and weights.largest is not None and weights.largest * FP16_MARGIN > FP16_LARGEST:
        raise UnsupportedError(
            f"Activations of {weights.spec.key} reach {weights.largest:.3g}, too near FP16's largest number "
            f"({FP16_LARGEST:,}) for every image to stay below it."
        )
