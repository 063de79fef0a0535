"""The one description of a model's pipeline: `include/models/<name>.yaml` as a frozen pydantic model.

Nothing here imports more than pydantic and yaml (the fine-tuner's settings are free of torch), so that a DAG file can
read configs while Airflow parses it.
No field holds a secret: credentials come from the environment (AWS_*, MLFLOW_TRACKING_*), Airflow connections
or Kubernetes secrets.
"""

import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from embft.config_base import (
    Cores,
    KubernetesName,
    LabelKey,
    LabelValue,
    Memory,
    Namespace,
    OffIsAWord,
    S3Object,
    S3Uri,
    SafeUrl,
    Strict,
    TimeZone,
    WebUrl,
)
from embft.errors import ConfigError
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.log_config import Logs
from embft.monitoring_config import Alerts, Monitoring
from embft.promotion_config import Evaluation, Gate, Publish, Retention
from embft.search_config import Search
from embft.validation_config import Validation, add_suites
from embft.yaml_files import YamlFile

STAGES = (
    "plan",
    "pull",
    "validate_sessions",
    "preprocess_ranks",
    "validate_ranks",
    "fine_tune",
    "evaluate",
    "gate",
    "register",
    "publish",
)
MONITOR = "monitor"
# What may run in a pod: a night's stages, and the one of the days between them.
_PLACED = (*STAGES, MONITOR)
_WEEK_S = 7 * 24 * 3600


class Schedule(Strict):
    """When a night runs. Night D starts after day D has ended, at the cron's next tick."""

    cron: str = Field("0 2 * * *", description="When the night starts, five cron fields.")
    timezone: TimeZone = Field("UTC", description="Time zone of the cron.")
    start_date: date = Field(description="First day that may be retrained (and backfilled).")
    max_active_runs: int = Field(1, ge=1, description="Nights of this model that may run at once.")


class StorageConfig(Strict):
    """Where the artifacts live, and how S3 is reached."""

    artifacts: S3Uri = Field(description="Prefix under which every result is written, as s3://bucket/prefix.")
    endpoint_url: WebUrl | None = Field(None, description="S3 endpoint; leave out for AWS itself.")
    region: str = Field("us-east-1", description="S3 region.")
    browse_url: WebUrl | None = Field(
        None, description="Web address that shows an object at <browse_url>/<bucket>/<key>; links in Airflow use it."
    )

    def page_of(self, uri: str) -> str | None:
        """Give the web address of an s3:// object; None where no browser of the storage is named."""
        return f"{self.browse_url.rstrip('/')}/{uri.removeprefix('s3://')}" if self.browse_url else None


class Catalogue(Strict):
    """The items that can be found: JSON lines, one item each."""

    uri: S3Object = Field(description="Object with the items, plain or gzipped JSON lines.")
    id_field: str = "id"
    text_field: str = "text"


class Window(Strict):
    """Which days a night learns from. The newest `test_days` are held out; training never sees them."""

    days: int = Field(14, ge=2, le=1000, description="Length of the window in days, the night's own day included.")
    test_days: int = Field(2, ge=1, description="Newest days of the window, kept for the comparison of models.")

    @model_validator(mode="after")
    def _leaves_days_to_train_on(self) -> "Window":
        if self.test_days >= self.days:
            raise ValueError(f"test_days is {self.test_days}, days is {self.days}; test_days must be smaller than days")
        return self


class EventWeights(Strict):
    """How much each action says that an item is relevant; 1 is the most."""

    click: float = Field(1.0, gt=0, le=1)
    add_to_cart: float = Field(1.0, gt=0, le=1)
    purchase: float = Field(1.0, gt=0, le=1)


class Judgements(Strict):
    """What is learned from a session: which results count as relevant, and which as not."""

    not_clicked: Literal["all", "skip_above", "last_click_plus_1"] = Field(
        "all",
        description="Shown results that count as not relevant: all that were not clicked, those above the last click, "
        "or those and the one below it.",
    )
    no_click_sessions: Literal["keep", "drop"] = Field(
        "keep", description="Sessions without a click: their results are the irrelevant side of training, or unused."
    )
    weights: EventWeights = EventWeights()
    min_dwell_s: float | None = Field(
        None, ge=0, description="A click that is known to have been left sooner counts neither as relevant nor as not."
    )
    negatives: Literal["sampled", "mined"] = Field(
        "sampled",
        description="Not-clicked side of a log without shown lists: drawn from the catalogue at random, or half of it "
        "from what the starting model ranks high for the query.",
    )
    position_bias: Annotated[Literal["off", "em", "interventions"], OffIsAWord] = Field(
        "off",
        description="Weigh clicks by the inverse probability that their position was looked at, estimated by a "
        "position-based click model, or from items that were shown at several positions.",
    )
    max_click_weight: float = Field(10.0, ge=1, description="Inverse probabilities above this are cut down to it.")


class Training(Strict):
    """How a challenger is trained."""

    base_model: str = Field(
        "wordllama",
        description="`wordllama`, `minilm`, or a model in the layout of SentenceTransformer: a folder, or "
        "s3://bucket/prefix.",
    )
    start_from: Literal["base", "champion", "both"] = Field(
        "base",
        description="Model whose weights training starts from; both: from each in trials of its own, of which the best "
        "is kept.",
    )
    validation_days: int = Field(
        1, ge=1, description="Newest train days, held out of training to pick the best epoch; never the test days."
    )
    sampled_negatives: int = Field(
        50, ge=1, description="Catalogue items drawn as not-clicked where the log has no shown lists."
    )
    interpolate: bool = Field(
        True,
        description="Mix the base model's weights into the trained ones, so that general knowledge is not forgotten: "
        "as many as leave the gain on the validation days nearly whole.",
    )
    params: FineTuningParams = Field(FineTuningParams(), description="Learning rates, margin, which pairs.")
    settings: FineTuningSettings = Field(FineTuningSettings(), description="Loss, epochs, batch size, seed, …")
    search: Search | None = Field(
        None, description="Settings that a night tries, beside those of params; left out: it tries those of params."
    )

    @model_validator(mode="after")
    def _can_train_what_it_searches(self) -> "Training":
        if self.search is not None:
            self.search.check_against(self.params, at=("search", "ranges"))
        return self


class MlflowConfig(Strict):
    """The MLflow that tracks runs and keeps the models."""

    tracking_uri: SafeUrl
    experiment: str | None = Field(None, description="Experiment name; the model's name when left out.")
    ui_url: WebUrl | None = Field(None, description="Web address of MLflow, for links; tracking_uri when it is http.")


class Toleration(Strict):
    """A taint of GPU nodes that the pod tolerates, as Kubernetes spells it."""

    key: LabelKey = Field(description="Key of the taint, such as nvidia.com/gpu.")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Exists: any value; Equal: the value below.")
    value: LabelValue | None = Field(None, description="Value of the taint, where operator is Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "NoSchedule", description="Effect of the taint."
    )

    @model_validator(mode="after")
    def _has_a_value_where_it_compares_one(self) -> "Toleration":
        if (self.operator == "Equal") != (self.value is not None):
            found = "no value" if self.value is None else f"value {self.value!r}"
            raise ValueError(f"operator is {self.operator}, with {found}; Equal needs a value, Exists takes none")
        return self


class Kubernetes(Strict):
    """The pod that a stage runs in. What is not here belongs to the pod template."""

    image: str = Field(description="Image with embft and its train extra, pinned by digest: name@sha256:…")
    namespace: Namespace = Field("embft", description="Namespace of the pods.")
    connection_id: str | None = Field(None, description="Airflow connection; left out: the scheduler's own cluster.")
    pod_template: str = Field("kubernetes/finetune_pod.yaml", description="Template, below include/.")
    gpus: int = Field(1, ge=0, description="GPUs of stages that encode text or train; the other stages get none.")
    memory: Memory = Field("16Gi", description="Memory of the pod, both asked for and the limit: Mi, Gi, Ti, M, G, T.")
    cpu: Cores = Field("4", description="Cores of the pod, both asked for and the limit: 4, 0.5 or 500m.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels that the pod's node must have."
    )
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of nodes that the pod tolerates.")
    priority_class: KubernetesName | None = Field(
        None, description="Priority class; a low one gives its node to more urgent pods, and training goes on later."
    )
    runtime_class: KubernetesName | None = Field(
        None, description="Runtime class, such as nvidia where GPUs need one; left out: the node's default."
    )
    service_account: KubernetesName | None = Field(
        None,
        description="Service account that a cloud gives rights to S3 (IRSA, workload identity). Kubernetes' own token "
        "stays unmounted.",
    )
    env_from_secret: KubernetesName | None = Field(
        "embft",
        description="Secret whose keys become the pod's environment (AWS_*, EMBFT_CLIENT_KEY, …); null: none, where "
        "the service account has every right that is needed.",
    )
    grace_s: int = Field(
        120,
        ge=60,
        le=3600,
        description="Time between SIGTERM and SIGKILL when the pod must go: 30 s for a validation under way to end, "
        "then a training's checkpoint reaches S3.",
    )
    deferrable: bool = Field(
        False,
        description="Wait in Airflow's triggerer, so that a training holds no worker slot; its log then comes once a "
        "minute.",
    )
    schedule_timeout_s: int = Field(
        1800, ge=1, le=_WEEK_S, description="Time for the cluster to find a node for the pod, or to start one."
    )
    startup_timeout_s: int = Field(
        1800, ge=1, le=_WEEK_S, description="Time for the pod to start on its node; most of it pulls the image."
    )

    @model_validator(mode="after")
    def _pins_its_image(self) -> "Kubernetes":
        if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}", self.image):
            raise ValueError(
                f"image is {self.image!r}; pin it by digest: name@sha256:<64 hex digits>, the name in small letters"
            )
        return self


class Runtime(Strict):
    """Where each stage runs: on the worker (a subprocess), or in a pod."""

    python: str | None = Field(None, description="Interpreter of worker stages; Airflow's own when left out.")
    stages: dict[Literal[_PLACED], Literal["worker", "pod"]] = Field(  # type: ignore[valid-type]
        default_factory=dict, description="Stages that do not run on the worker."
    )
    kubernetes: Kubernetes | None = None
    pool: str | None = Field(
        None,
        min_length=1,
        description="Airflow pool that the stages which train or encode wait in, with as many slots as there are GPUs; "
        "it must exist. Left out: Airflow's default pool.",
    )
    retries: int = Field(3, ge=0, description="Retries after a temporary failure (exit code 75).")
    retry_delay_s: float = Field(60, ge=0, le=_WEEK_S, description="First wait before a retry; it doubles each time.")
    timeout_s: int = Field(6 * 3600, ge=1, le=_WEEK_S, description="Time after which a stage is stopped.")
    checkpoint_minutes: float = Field(
        10, gt=0, description="Longest time between two checkpoints of a training; so much is lost if its pod is."
    )

    @model_validator(mode="after")
    def _describes_its_pod(self) -> "Runtime":
        pods = [stage for stage, place in self.stages.items() if place == "pod"]
        if pods and self.kubernetes is None:
            raise ValueError(f"{', '.join(pods)} should run in a pod; add the section runtime.kubernetes")
        return self


class ModelConfig(Strict):
    """One model's pipeline."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9_-]{0,61}[a-z0-9])?$", description="Equal to the file's name.")
    owner: str = Field(min_length=1, description="Team that is called when the night fails.")
    description: str = ""
    synthetic: bool = Field(False, description="The logs are simulated; every page and table says so.")
    schedule: Schedule
    storage: StorageConfig
    logs: Logs
    catalogue: Catalogue
    window: Window = Window()
    judgements: Judgements = Judgements()
    validation: Validation = Validation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    gate: Gate
    publish: Publish = Publish()
    retention: Retention = Retention()
    monitoring: Monitoring = Monitoring()
    alerts: Alerts = Alerts()
    mlflow: MlflowConfig
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _weighs_clicks_once(self) -> "ModelConfig":
        calculator = self.training.settings.confidence_calculator
        if self.judgements.position_bias != "off" and calculator != "dummy_confidences":
            raise ValueError(
                f"judgements.position_bias is {self.judgements.position_bias!r} and "
                f"training.settings.confidence_calculator is {calculator!r}; both weigh clicks: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _gate_knows_what_is_measured(self) -> "ModelConfig":
        self.gate.check_against(self.evaluation)
        self.monitoring.check_against(self.evaluation)
        return self

    @property
    def subject(self) -> str:
        """What a page about the model begins its title with: its name, and a warning where its clicks are made up."""
        return f"{self.name} (synthetic data): " if self.synthetic else f"{self.name}: "

    @property
    def zone(self) -> ZoneInfo:
        """Time zone in which the log's days begin and end."""
        return ZoneInfo(self.logs.timezone)


def load_config(path: Path) -> ModelConfig:
    """Read one model's config, with `${NAME}` filled in from the environment and its suites read in.

    Args:
        path: `include/models/<name>.yaml`; suites come from `include/expectations/` beside it.

    Returns:
        The resolved config.

    Raises:
        ConfigError: The file is missing, is not YAML, or breaks the schema. The message has one line for each
            fault, with file, line, key, what was found and what is expected.
    """
    file = YamlFile(path)
    content = file.expanded(dict)
    add_suites(content, file, path.parent.parent / "expectations")
    config = file.validated(content, ModelConfig)
    if config.name != path.stem:
        raise file.fault(("name",), f"is {config.name!r}; it must equal the file's name, {path.stem!r}")
    return config


def config_files(include: Path) -> list[Path]:
    """Find a project's config files, ordered by name.

    Args:
        include: The project's `include` folder.

    Returns:
        `include/models/*.yaml`, at least one.

    Raises:
        ConfigError: There is none.
    """
    _must_exist(include)
    paths = sorted((include / "models").glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{include / 'models'}: no *.yaml here; a model needs one config")
    return paths


def include_folder() -> Path:
    """Say where `include/` lies: $EMBFT_INCLUDE, or `include` below the working folder."""
    return Path(os.environ.get("EMBFT_INCLUDE") or "include")


def config_path(include: Path, model: str) -> Path:
    """Give the config file of a model.

    Args:
        include: The project's `include` folder.
        model: The model's name.

    Returns:
        Path of an existing config.

    Raises:
        ConfigError: There is no such model; the message lists those there are.
    """
    _must_exist(include)
    path = include / "models" / f"{model}.yaml"
    known = sorted(file.stem for file in (include / "models").glob("*.yaml"))
    if model not in known:
        raise ConfigError(f"no model {model!r}: {path} does not exist; models here: {', '.join(known) or 'none'}")
    return path


def pod_template(config: ModelConfig, include: Path) -> Path | None:
    """Find the template of a model's pods.

    Args:
        config: The model's config.
        include: The project's `include` folder.

    Returns:
        The template; None where no stage runs in a pod.

    Raises:
        ConfigError: It does not exist.
    """
    if config.runtime.kubernetes is None or "pod" not in config.runtime.stages.values():
        return None
    return template_of(config.name, config.runtime.kubernetes, include)


def template_of(model: str, kubernetes: Kubernetes, include: Path) -> Path:
    """Find the template that a section `runtime.kubernetes` names.

    Args:
        model: The model's name.
        kubernetes: The section.
        include: The project's `include` folder.

    Returns:
        The template.

    Raises:
        ConfigError: It does not exist.
    """
    template = include / kubernetes.pod_template
    if not template.is_file():
        raise ConfigError(
            f"runtime.kubernetes.pod_template of {model}: {template} does not exist; "
            "it is named relative to the include folder"
        )
    return template


def _must_exist(include: Path) -> None:
    if not include.is_dir():
        raise ConfigError(
            f"the include folder {include.absolute()} does not exist; "
            "run embft in the project's folder, or set EMBFT_INCLUDE to its include folder"
        )
