"""What a model's folder must hold before anything in it is loaded: no code, no pickle, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from embft.errors import ConfigError

_KNOWN_MODULES = frozenset(
    "Asym BoW CLIPModel CNN Dense Dropout LSTM LayerNorm Normalize Pooling Router StaticEmbedding Transformer "
    "WeightedLayerPooling WordEmbeddings WordWeights".split()
)
_ROUTERS = ("Asym", "Router")
_TRANSFORMERS = ("CLIPModel", "Transformer")
_PICKLED = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_WEIGHTS = "model.safetensors"
# Without one of these transformers takes the words from nowhere, and gives every text one vector.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
)


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
        ConfigError: There is no modules.json, it is broken, or it names a class that is no module of
            sentence-transformers or a path outside the folder.
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


def read_config(folder: Path) -> dict[str, Any]:
    """Read what a folder says of the whole model.

    Args:
        folder: Of the model.

    Returns:
        The content of config_sentence_transformers.json, where `prompts` are texts or None; {} without the file.

    Raises:
        ConfigError: It is of another form, or of another kind of model.
    """
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.is_file() else {}
    prompts = config.get("prompts") or {} if isinstance(config, dict) else None
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str | None) for prompt in prompts.values()):
        raise ConfigError(
            f"{str(path)!r} holds {str(config)[:100]}; it must be an object, and its `prompts` one of name → text: "
            "the folder of the model is broken"
        )
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ConfigError(
            f"the model in {str(folder)!r} is a {kind}; only a SentenceTransformer gives one vector a text"
        )
    return config


def check_files(folder: Path, modules: list[Module]) -> None:
    """Refuse a folder that sentence-transformers could only load with pickles, or with files from elsewhere.

    Args:
        folder: Of the model.
        modules: As `read_modules` gave them.

    Raises:
        ConfigError: A module's weights are pickled or lie outside the folder, or a transformer has no vocabulary.
    """
    for module in [*modules, *_routed(folder, modules)]:
        _check_pickles(folder, module)
        if module.name in _TRANSFORMERS:
            _check_transformer(folder, module)


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
        ConfigError: A router's own list of modules is missing or broken, or names another router.
    """
    routed = []
    for router in (module for module in modules if module.name in _ROUTERS):
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
    for module in routed:
        if module.name in _ROUTERS:
            raise ConfigError(f"the model in {str(folder)!r} has a Router within a Router; a tower needs one at most")
    return routed


def _check_names(folder: Path, modules: list[Module]) -> None:
    for module in modules:
        type_ = module.type if isinstance(module.type, str) else ""
        if not re.fullmatch(r"sentence_transformers(\.\w+)+", type_) or module.name not in _KNOWN_MODULES:
            raise ConfigError(
                f"the model in {str(folder)!r} names the module type {module.type!r}; no code but the modules of "
                f"sentence_transformers is loaded: {', '.join(sorted(_KNOWN_MODULES))}"
            )
        if not isinstance(module.path, str) or ".." in Path(module.path).parts or Path(module.path).is_absolute():
            raise ConfigError(
                f"the model in {str(folder)!r} names the path {module.path!r}, which is outside the folder"
            )


def _check_pickles(folder: Path, module: Module) -> None:
    # sentence-transformers falls back on a pickle where the one name of safetensors that it knows is missing.
    own = folder / module.path
    has_safetensors = (own / _WEIGHTS).is_file() or (
        module.name in _TRANSFORMERS and (own / f"{_WEIGHTS}.index.json").is_file()
    )
    pickles = sorted(path.name for path in own.glob("*") if path.suffix in _PICKLED)
    if pickles and not has_safetensors:
        raise ConfigError(
            f"the model in {str(folder)!r} has weights in {str(Path(module.path) / pickles[0])!r} and no {_WEIGHTS} "
            "beside it, and a pickle may run code; save them as safetensors"
        )


def _check_transformer(folder: Path, module: Module) -> None:
    own = folder / module.path
    where = f"the model in {str(folder)!r}"
    config = read_json(own / "config.json") if (own / "config.json").is_file() else {}
    if isinstance(config, dict) and "transformers_weights" in config:
        raise ConfigError(
            f"{where} takes its weights from {config['transformers_weights']!r}, as `transformers_weights` in "
            f"{str(Path(module.path) / 'config.json')!r} says; only {_WEIGHTS} is read: save it once with transformers"
        )
    for index in sorted(own.glob("*.safetensors.index*.json")):
        _check_shards(where, index)
    if not any(any(own.glob(name)) for name in _VOCABULARIES):
        missing = str(Path(module.path) / _VOCABULARIES[0])
        raise ConfigError(f"{where} lacks {missing!r}, which its {module.name} needs; copy the whole folder")


def _check_shards(where: str, index: Path) -> None:
    shards = read_json(index)
    files = shards.get("weight_map") if isinstance(shards, dict) else None
    for name in files.values() if isinstance(files, dict) else [files]:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ConfigError(
                f"{where} names the file {name!r} in {index.name}; weights must lie beside it, in *.safetensors: "
                "save the model once with transformers"
            )
