"""What a model's folder must hold before anything in it is loaded: no code, no pickle, nothing that is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from embft.errors import ConfigError

_PICKLED = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_READS_INPUT = ("Transformer", "CLIPModel")
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class Module(NamedTuple):
    """One module of a folder.

    Args:
        path: Its files, relative to the folder; "" for the folder itself.
        type: Dotted name of its class.
    """

    path: str
    type: str

    @property
    def name(self) -> str:
        """Name of its class."""
        return self.type.rpartition(".")[2]


def read_modules(folder: Path) -> list[Module]:
    """Modules that a folder in the layout of SentenceTransformer consists of.

    Args:
        folder: Holds modules.json.

    Returns:
        Modules in order; a router's own ones are not among them.

    Raises:
        ConfigError: There is no modules.json, it is broken, or it names a class outside sentence-transformers or a
            path outside the folder.
    """
    if not (folder / "modules.json").is_file():
        raise ConfigError(
            f"model source {str(folder)!r} has no modules.json; "
            'give "wordllama", "minilm", s3://bucket/prefix or a folder in the layout of SentenceTransformer'
        )
    entries = read_json(folder / "modules.json")
    try:
        modules = [Module(entry.get("path", ""), entry["type"]) for entry in entries]
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"modules.json in {str(folder)!r} is no list of modules with a `type` each") from error
    if not modules:
        raise ConfigError(f"modules.json in {str(folder)!r} lists no module; the folder of the model is broken")
    _check_names(folder, modules)
    return modules


def check_files(folder: Path, modules: list[Module]) -> None:
    """Refuse a folder that sentence-transformers could only load with code or pickles from it, or not at all.

    Args:
        folder: Of the model.
        modules: As `read_modules` gave them.

    Raises:
        ConfigError: The folder is of another kind of model, a module's weights are pickled, or a file is missing.
    """
    config = folder / "config_sentence_transformers.json"
    kind = read_json(config).get("model_type", "SentenceTransformer") if config.is_file() else "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise ConfigError(
            f"the model in {str(folder)!r} is a {kind}; only a SentenceTransformer gives one vector a text"
        )
    for module in [*modules, *_routed(folder, modules)]:
        _check_module(folder, module)


def read_json(path: Path) -> Any:
    """Read a JSON file of a model.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ConfigError: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{str(path)!r} is not JSON: {error}; the folder of the model is broken") from error


def _routed(folder: Path, modules: list[Module]) -> list[Module]:
    """Modules inside the folder's routers.

    Raises:
        ConfigError: A router's own list of modules is missing or broken.
    """
    routed = []
    for router in (module for module in modules if module.name in ("Router", "Asym")):
        configs = [folder / router.path / name for name in ("router_config.json", "config.json")]
        config = next((path for path in configs if path.is_file()), None)
        if config is None:
            raise ConfigError(f"the model in {str(folder)!r} lacks {router.path}/router_config.json of its Router")
        try:
            types = dict(read_json(config)["types"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{str(config)!r} names no `types` of modules; the folder is broken") from error
        routed += [Module(f"{router.path}/{name}".lstrip("/"), type_) for name, type_ in types.items()]
    _check_names(folder, routed)
    return routed


def _check_names(folder: Path, modules: list[Module]) -> None:
    for module in modules:
        if not isinstance(module.type, str) or not re.fullmatch(r"sentence_transformers(\.\w+)+", module.type):
            raise ConfigError(
                f"the model in {str(folder)!r} names the module type {module.type!r}, which is code of its own; only "
                "modules of sentence_transformers are loaded"
            )
        if not isinstance(module.path, str) or ".." in Path(module.path).parts or Path(module.path).is_absolute():
            raise ConfigError(
                f"the model in {str(folder)!r} names the path {module.path!r}, which is outside the folder"
            )


def _check_module(folder: Path, module: Module) -> None:
    own = folder / module.path
    where = f"the model in {str(folder)!r}"
    has_safetensors = any(own.glob("*.safetensors"))
    pickles = sorted(path.name for path in own.glob("*") if path.suffix in _PICKLED)
    if pickles and not has_safetensors:
        raise ConfigError(
            f"{where} has its weights in {str(Path(module.path) / pickles[0])!r} only, and a pickle may run code; "
            "save them as safetensors"
        )
    if module.name not in _READS_INPUT:
        return
    for names in (("config.json",), _WEIGHTS, _VOCABULARIES):
        if not any(any(own.glob(name)) for name in names):
            missing = str(Path(module.path) / names[0])
            raise ConfigError(f"{where} lacks {missing!r}, which its {module.name} needs; copy the whole folder")
