"""Models and fine-tuning objects that several stages need, built from the frozen run."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from embft.config import ModelConfig
from embft.errors import ConfigError, DataRejected, ObjectMissing
from embft.finetuning.params import FineTuningSettings
from embft.paths import Paths
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.ledger import read_history
from embft.results import Artifact, Champion, RunSpec, StageResult
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.finetuning.inputs import FineTuningInput
    from embft.finetuning.items import ItemsSet, TextQueryRetriever
    from embft.finetuning.models import EmbeddingsModelInterface
    from embft.promotion.registry import Registry


class Vocabulary(NamedTuple):
    """What every model is trained and judged with."""

    items_set: "ItemsSet"
    retriever: "TextQueryRetriever"


def vocabulary(items: pa.Table) -> Vocabulary:
    """Build the item set and the query retriever.

    Args:
        items: Columns id and text.

    Returns:
        Both.
    """
    from embft.finetuning.items import ItemsSet, TextQueryRetriever

    return Vocabulary(ItemsSet.from_table(items), TextQueryRetriever())


def sessions_of(context: Context, part: str) -> "list[FineTuningInput]":
    """Read the sessions of a part, as `preprocess_ranks` wrote them.

    Args:
        context: Of the stage; it needs `preprocess_ranks`.
        part: train, validation or test.

    Returns:
        The sessions, in order of time.
    """
    from embft.finetuning.tables import inputs_from_table

    return inputs_from_table(pq.read_table(context.fetch("preprocess_ranks", f"inputs/{part}.parquet")))


def settings_of(run: RunSpec) -> FineTuningSettings:
    """Give the settings of training and evaluation, with clicks weighed as `judgements.position_bias` says."""
    settings, judgements = run.config.training.settings, run.config.judgements
    if judgements.position_bias == "off":
        return settings
    from embft.finetuning.confidences import ClippedPropensities

    calculator = ClippedPropensities(1 / judgements.max_click_weight)
    return settings.model_copy(update={"confidence_calculator": calculator})


def base_model(context: Context) -> "EmbeddingsModelInterface":
    """Load the model that everything starts from, onto a GPU where there is one."""
    from embft.finetuning.models import load_model

    return _placed(load_model(context.run.config.training.base_model, context.storage), context)


def champion_model(context: Context) -> "EmbeddingsModelInterface | None":
    """Load the champion of the nights before this one, see `served_model`; None before the first promotion."""
    champion = context.run.champion
    return None if champion is None else served_model(context, champion)


def served_model(context: Context, champion: Champion) -> "EmbeddingsModelInterface":
    """Load a version that serves or served, onto a GPU where there is one.

    Args:
        context: Of the stage.
        champion: The version.

    Returns:
        The model.

    Raises:
        ConfigError: A file of its weights is gone or was changed; the message says what helps.
    """
    try:
        return saved_model(context, champion.weights)
    except (ObjectMissing, DataRejected) as error:
        previous = read_history(context.storage, context.paths).previous
        to = previous.version if previous else "<a version whose weights are there>"
        raise ConfigError(
            f"the weights of version {champion.version} of {champion.model} cannot be used: "
            f"{str(error).partition(';')[0]}; restore that file, or let another version serve and run the night again: "
            f"`embft rollback --model {champion.model} --to {to}`"
        ) from error


def saved_model(context: Context, weights: dict[str, Artifact]) -> "EmbeddingsModelInterface":
    """Download a saved model and load it, onto a GPU where there is one.

    Args:
        context: Of the stage.
        weights: The files' names relative to the model's folder → artifact.

    Returns:
        The model.
    """
    from embft.finetuning.models import load_model

    return _placed(load_model(model_folder(context, weights)), context)


def _placed(model: "EmbeddingsModelInterface", context: Context) -> "EmbeddingsModelInterface":
    from embft.finetuning.devices import encoding_device

    return model.to(encoding_device(context.run.config.training.settings))


def model_folder(context: Context, weights: dict[str, Artifact]) -> Path:
    """Download a saved model's files, digests checked.

    Args:
        context: Of the stage.
        weights: The files' names relative to the model's folder → artifact.

    Returns:
        The model's folder.
    """
    folder = Path(tempfile.mkdtemp(dir=context.folder))
    for name, artifact in weights.items():
        context.storage.fetch(artifact, folder / name)
    return folder


def challenger_weights(context: Context) -> dict[str, Artifact]:
    """Name the files of the night's challenger, as `fine_tune` wrote them."""
    return _below(context.inputs["fine_tune"], "model/")


def candidate_weights(context: Context) -> dict[str, Artifact]:
    """Name the files of the model that the gate judged; see `weights_of`."""
    return weights_of(context.inputs["fine_tune"], context.inputs["evaluate"], evaluation_of(context))


def weights_of(trained: StageResult, evaluated: StageResult, evaluation: Evaluation) -> dict[str, Artifact]:
    """Name the files of the model that a night's gate judged.

    The challenger's; but of earlier nights, when `evaluate` mixed weights, perhaps those of its interpolation.

    Args:
        trained: Result of `fine_tune`.
        evaluated: Result of `evaluate`.
        evaluation: What it found.

    Returns:
        The files' names relative to the model's folder → artifact.
    """
    if evaluation.candidate == "interpolation":
        return _below(evaluated, "interpolation/")
    return _below(trained, "model/")


def _below(result: StageResult, prefix: str) -> dict[str, Artifact]:
    return {name.removeprefix(prefix): it for name, it in result.outputs.items() if name.startswith(prefix)}


def evaluation_of(context: Context) -> Evaluation:
    """Read the measures that `evaluate` found."""
    uri = context.inputs["evaluate"].output("evaluation.json").uri
    return Evaluation.from_json(context.fetch("evaluate", "evaluation.json").read_bytes(), uri)


def tracker_of(context: Context) -> "ExperimentsManager":
    """Open the experiment of the model in MLflow; see `experiment_of`."""
    return experiment_of(context.run.config, context.paths)


def experiment_of(config: ModelConfig, paths: Paths) -> "ExperimentsManager":
    """Open a model's experiment in MLflow; a new one keeps its files beside the model's other artifacts."""
    from embft.experiments.manager import ExperimentsManager

    return ExperimentsManager(
        config.mlflow.tracking_uri,
        config.mlflow.experiment or config.name,
        artifact_location=paths.mlflow,
        s3_endpoint=config.storage.endpoint_url,
        ui_url=config.mlflow.ui_url,
    )


def registry_of(config: ModelConfig) -> "Registry":
    """Open a model's versions in MLflow."""
    from embft.promotion.registry import Registry

    return Registry(config.mlflow.tracking_uri, config.name, s3_endpoint=config.storage.endpoint_url)
