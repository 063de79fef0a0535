"""`embft export`: a registered version as a folder that other programs serve, with vectors shown to be equal."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embft.errors import ConfigError, DataRejected
from embft.promotion.artifacts import download, find_version
from embft.promotion.export_readme import readme

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface

Format = Literal["folder", "onnx"]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

ABOUT = "embft.json"
MOST_DIFFERENCE = 1e-5
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# What tokenizers and padding go wrong on: nothing at all, one token, many, other scripts, and what looks like markup.
TEXTS = (
    "",
    "a",
    "red running shoes size 42",
    "xbox 360 wireless controller (black), 2-pack",
    "红色跑步鞋",
    "كاميرا رقمية",
    "crème brûlée e\u0301clair",
    "🎉👟 party shoes",
    "[CLS] shoes [SEP] </s> <unk>",
    " \t spaces \n and  lines ",
    "QUERY: query: passage: SHOES",
    "a very long title of one item with many words " * 60,
)
_ALONE = ([""], ["", ""], ["a"], [TEXTS[2]])


class Exported(NamedTuple):
    """A folder that was written.

    Args:
        folder: The folder.
        about: Content of its embft.json: version, prompts, files, and the largest difference that the check saw.
    """

    folder: Path
    about: dict[str, Any]


def export_model(
    tracking_uri: str,
    model: str,
    *,
    to: Format,
    output: Path,
    version: str | None = None,
    s3_endpoint: str | None = None,
) -> Exported:
    """Download a version from MLflow and write it for serving; checks the vectors of what it wrote before it is done.

    Args:
        tracking_uri: MLflow's.
        model: Name of the registered model.
        to: `folder`: an ordinary SentenceTransformer folder. `onnx`: graphs and tokenizers.
        output: Folder to make; one that exists must be empty. Nothing is in it before everything is.
        version: The version; None for the one that the alias `champion` names.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.

    Returns:
        What was written.

    Raises:
        ConfigError: There is no such version, its files are gone or broken, packages are missing, the model has no such
            form, or the output cannot be written.
        DataRejected: What was written gives other vectors than the version.
        TemporaryError: MLflow or S3 is away.
    """
    from embft.finetuning.models import load_model

    _check_packages(to)
    with _beside(output) as temporary:
        found = find_version(tracking_uri, model, version)
        source = download(tracking_uri, found, temporary / "version", s3_endpoint=s3_endpoint)
        try:
            loaded = load_model(source)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(source), found.uri)) from error
        about: dict[str, Any] = {
            "model": model,
            "version": found.version,
            "day": found.day,
            "format": to,
            "dimensions": loaded.dim,
            "unit_length": True,
        }
        made = temporary / "made"
        about |= _as_onnx(loaded, made) if to == "onnx" else _as_folder(loaded, source, made)
        (made / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / "README.md").write_text(readme(about), encoding="utf-8")
        _move(made, output)
    return Exported(output, about)


def _as_folder(model: EmbeddingsModelInterface, source: Path, made: Path) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    from embft.finetuning.models import TextImageModel

    source.rename(made)
    kwargs = {"use_safetensors": True}
    served = SentenceTransformer(str(made), device="cpu", local_files_only=True, model_kwargs=kwargs)

    def encode_query(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(served.encode_query(list(texts), show_progress_bar=False))

    def encode_document(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(served.encode_document(list(texts), show_progress_bar=False))

    differences = [_difference("queries", model.encode_queries, encode_query)]
    if not isinstance(model, TextImageModel):  # whose items are images
        differences.append(_difference("items", model.encode_items, encode_document))
    return {
        "queries": {"prompt": model.query_prompt, "call": "encode_query"},
        "items": {"prompt": model.item_prompt, "call": "encode_document"},
        "largest_difference": max(differences),
    }


def _as_onnx(model: EmbeddingsModelInterface, made: Path) -> dict[str, Any]:
    from embft.promotion.onnx_encoder import OnnxEncoder
    from embft.promotion.onnx_graph import encoders_of

    made.mkdir()
    encoders = encoders_of(model)
    queries, items = encoders
    graphs = _file_of_each("model.onnx", "{}.onnx", queries.graph is items.graph)
    tokenizers = _file_of_each("tokenizer.json", "{}_tokenizer.json", queries.tokenizer == items.tokenizer)
    about: dict[str, Any] = {}
    for side, encoder in encoders._asdict().items():
        if not (made / graphs[side]).exists():
            encoder.write(made / graphs[side])
        (made / tokenizers[side]).write_text(encoder.tokenizer, encoding="utf-8")
        about[side] = {"prompt": encoder.prompt, "graph": graphs[side], "tokenizer": tokenizers[side]}
    # Read back from the files, by what embft.json will say of them: a server has nothing else.
    about["largest_difference"] = max(
        _difference("queries", model.encode_queries, OnnxEncoder(made, about["queries"]).encode),
        _difference("items", model.encode_items, OnnxEncoder(made, about["items"]).encode),
    )
    return about


def _file_of_each(shared: str, own: str, is_shared: bool) -> dict[str, str]:
    return {side: shared if is_shared else own.format(side) for side in ("queries", "items")}


def _difference(side: str, wanted: Encode, got: Encode) -> float:
    """Largest difference of any number of any vector, of texts in one batch and alone.

    Raises:
        DataRejected: It is too large, or no number.
    """
    difference = max(float(np.abs(wanted(texts) - got(texts)).max()) for texts in (TEXTS, *_ALONE))
    if not difference <= MOST_DIFFERENCE:  # NaN is not
        raise DataRejected(
            f"the exported model gives other vectors of {side} than the registered version: they differ by up to "
            f"{difference:.2g}, and may by {MOST_DIFFERENCE:g}; nothing was written. Try the other format of --to, or "
            "register a model that embft saved"
        )
    return difference


def _check_packages(to: Format) -> None:
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None] if to == "onnx" else []
    if missing:
        raise ConfigError(f"--to onnx needs {', '.join(missing)}, not installed here: pip install 'embft[export]'")


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as the output, so that the move at last is one step.

    Raises:
        ConfigError: The output holds something, or nothing can be written there.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise ConfigError(
            f"--output {str(output)!r} is a {'file' if output.is_file() else 'folder that holds something'}; give a "
            "new or an empty folder: nothing is overwritten"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise ConfigError(f"cannot write beside --output {str(output)!r}: {error}; give another folder") from error
    with temporary as folder:
        yield Path(folder)


def _move(made: Path, output: Path) -> None:
    # safetensors makes files that nobody but their owner reads, and a server runs as somebody else.
    mode = (made / ABOUT).stat().st_mode
    try:
        for path in made.rglob("*"):
            if path.is_file():
                path.chmod(mode)
        made.replace(output)
    except OSError as error:  # somebody else has filled it meanwhile
        raise ConfigError(f"cannot move the export to {str(output)!r}: {error}; give another --output") from error
