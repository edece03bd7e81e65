"""The models of a study: what an entry of `models` in the config names, checked without importing torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deepgap.errors import ConfigError
from deepgap.sources import DEFAULT_KIND, Source, load_source, source_names
from deepgap.study.schema import nearest

IMAGE_SIZE = 224
LONGEST_KEY = 60
UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
"""What does not stand in a file's name."""

SEEDED, PRETRAINED, FILE, GRAPH = "seeded", "pretrained", "file", "graph"
WORDS = {SEEDED: SEEDED, PRETRAINED: PRETRAINED, "imagenet": PRETRAINED}
"""Where weights come from, by the words of the config; any other text is the path of a file."""

WEIGHTS_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    key: its name in files, tables and recipes.
    weights: its recipe: `source` (seeded, pretrained, file or graph), the seed of seeded ones, and what tells the
        model apart from others of its key: `model`, the version of its kind of source, and hashes of its files.
    image_size: pixels of a side.
    kind, name, file: the kind of source, and the model in it (`sources.Place`).
    weights_file: a state dict of the user.
    """

    key: str
    weights: Mapping[str, Any] = field(hash=False)
    image_size: int = IMAGE_SIZE
    kind: str = DEFAULT_KIND
    name: str = ""
    file: str | None = None
    weights_file: str | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What of it defines a cell: contents of files, never their places."""
        return {"weights": dict(self.weights), "image_size": self.image_size}

    @property
    def request(self) -> dict[str, Any]:
        """All of it as JSON values, for a script; `ModelSpec(**request)` is the same again."""
        return asdict(self)

    @property
    def is_graph(self) -> bool:
        """Whether the model is given as an ONNX graph, which has no form in PyTorch."""
        return bool(self.weights["source"] == GRAPH)


def parse_models(entries: Sequence[Any], weights: Mapping[str, Any], place: str) -> list[ModelSpec]:
    """The models of a list of the config, in its order.

    An entry is a text (`resnet50`, `timm:NAME`, `onnx:PATH`, `file:PATH.py:FACTORY`), or a mapping of `model`, such a
    text, with `name`, what the model is called, `weights` and `image_size`. Paths are relative to the project's root.

    Args:
        weights: of the config, for models that have none of their own.
        place: names the list in sentences.

    Raises:
        ConfigError: a name is not known, or a file is missing or not what it should be.
    """
    specs = [_parse(entry, weights, f"{place}[{index}]") for index, entry in enumerate(entries)]
    refuse_clashes(specs, place)
    return specs


def refuse_clashes(specs: Iterable[ModelSpec], place: str) -> None:
    """Refuse different models of one key, which their files could not be told apart by.

    Raises:
        ConfigError: with the key.
    """
    seen: dict[str, ModelSpec] = {}
    for spec in specs:
        # Some file systems do not tell capitals from small letters.
        other = seen.setdefault(spec.key.lower(), spec)
        if other != spec:
            raise ConfigError(
                f"config.yaml: {place} has two different models that are called '{spec.key}' in files; give one a "
                f"name of its own: {{model: ..., name: {spec.key}-2}}."
            )


def missing_source(specs: Iterable[ModelSpec]) -> str | None:
    """What is not installed though a model needs it, as a sentence; null where all is there."""
    for spec in specs:
        source = load_source(spec.kind)
        if not source.is_installed:
            return (
                f"The model {spec.key} is of {source.library}, which is not installed; run "
                f"'pip install {source.library}', or take it out of models in config/config.yaml."
            )
    return None


def _parse(entry: Any, weights: Mapping[str, Any], where: str) -> ModelSpec:
    asked: Mapping[str, Any] = {"model": entry} if isinstance(entry, str) else entry
    text = asked["model"]
    where = f"config.yaml: {where}"
    head, colon, tail = text.partition(":")
    kind, rest = (head, tail) if colon else (DEFAULT_KIND, text)
    if kind not in source_names():
        forms = ", ".join(load_source(name).form for name in (DEFAULT_KIND, *_other_kinds()))
        raise ConfigError(f"{where} is '{text}'{nearest(kind, source_names())}; it must be one of {forms}.")
    source = load_source(kind)
    try:
        found = source.locate(rest)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}.") from None
    _check_name(source, found.name, where, text)
    key = str(asked.get("name", source.key(found)))
    fit = UNFIT.sub("-", key).strip(".-")
    if not fit or len(fit) > LONGEST_KEY or ("name" in asked and fit != key):
        raise ConfigError(
            f"{where} is called '{key}', which cannot stand in the name of a file; give it a 'name' of 1 to "
            f"{LONGEST_KEY} letters, digits, '_', '-' and '.'."
        )
    recipe, weights_file = _weights(asked, weights, source, where)
    size = asked.get("image_size", IMAGE_SIZE)
    own_size = source.own_size(found) if recipe["source"] in (PRETRAINED, GRAPH) else None
    if recipe["source"] == GRAPH and own_size not in (None, size):
        raise ConfigError(
            f"{where} is '{text}', whose graph takes images of {own_size} x {own_size} and not {size} x {size}; "
            f"write {{model: {text}, image_size: {own_size}}}."
        )
    if "image_size" not in asked and own_size not in (None, IMAGE_SIZE):
        raise ConfigError(
            f"{where} is '{text}', whose trained weights are for images of {own_size} x {own_size}; write "
            f"{{model: {text}, image_size: {own_size}}}, or another size."
        )
    recipe |= {"model": f"{kind}:{found.name}", "version": source.version}
    if found.file is not None:
        recipe["sha256"] = _digest(found.file, where)
    return ModelSpec(fit, recipe, size, kind, found.name, str(found.file) if found.file else None, weights_file)


def _other_kinds() -> list[str]:
    return [name for name in source_names() if name != DEFAULT_KIND]


def _check_name(source: Source, name: str, where: str, text: str) -> None:
    """Refuse a name that is not in the source's list; without the library there is no list to look in."""
    known = source.names() if source.names is not None else ()
    if not known or name in known:
        return
    for other in _other_kinds():
        names = load_source(other).names
        if names is not None and name in names():
            raise ConfigError(f"{where} is '{text}'; did you mean '{other}:{name}'?")
    raise ConfigError(
        f"{where} is '{text}'{nearest(name, known)}, which {source.library} does not have; it has "
        f"{len(known)} models."
    )


def _weights(
    asked: Mapping[str, Any], default: Mapping[str, Any], source: Source, where: str
) -> tuple[dict[str, Any], str | None]:
    """The recipe of a model's weights, and the user's file of them if there is one."""
    if source.build is None:
        if "weights" in asked:
            raise ConfigError(f"{where} has weights of its own, but an ONNX graph holds its weights; remove them.")
        return {"source": GRAPH}, None
    word = str(asked.get("weights", default["source"]))
    if word in WORDS:
        return {"source": WORDS[word]} | ({"seed": default["seed"]} if WORDS[word] == SEEDED else {}), None
    file = Path(word).expanduser()
    if file.suffix not in WEIGHTS_SUFFIXES:
        raise ConfigError(
            f"{where} has the weights '{word}'{nearest(word, list(WORDS))}; allowed: seeded, pretrained, or a file "
            f"({', '.join(WEIGHTS_SUFFIXES)})."
        )
    return {"source": FILE, "weights_sha256": _digest(file, where)}, str(file)


def _digest(file: Path, where: str) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{where}: the file {file} cannot be read ({error.strerror}).") from None
