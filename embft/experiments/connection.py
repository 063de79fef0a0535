"""One experiment of one MLflow: each call to it is bounded, repeated while MLflow is away, and explained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from embft.errors import ConfigError, EmbftError, TemporaryError
from embft.experiments.reaching import reaching_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# Before a run has begun, nothing is lost by giving up. This is for a SQLite database that another process locks.
_PATIENCE_S = 5.0
_PARAMS_PER_CALL = 100  # MLflow's limit
_RUNS_PER_PAGE = 1000


class Measure(NamedTuple):
    """One value of a measure; `at_ms` is in milliseconds since 1970."""

    name: str
    value: float
    at_ms: int
    step: int


class Connection:
    """Calls MLflow about one experiment.

    Args:
        tracking_uri: MLflow's.
        experiment: Name of the experiment; made where it does not exist.
        artifact_location: Where a new experiment keeps its files; None leaves it to MLflow.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_location: str | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.artifact_location = artifact_location
        self.experiment_id: str | None = None
        self._client: MlflowClient | None = None
        self._patience_s = _PATIENCE_S

    def call(self, doing: str, work: Callable[[MlflowClient], Answer]) -> Answer:
        """Ask MLflow, and while it is away or its database is locked, ask again until patience is over.

        Args:
            doing: What is done, for the message: "begin a run".
            work: Does it. Where MLflow did it and its answer was lost, it is done twice: a run that was begun so
                leaves an empty one beside it, as RUNNING, which counts nowhere.

        Returns:
            What `work` gives.

        Raises:
            ConfigError: MLflow refuses, or its address cannot be used.
            TemporaryError: MLflow stays away.
        """
        asking = Retrying(
            retry=retry_if_exception_type(TemporaryError),
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential(multiplier=0.5, max=5),
            before_sleep=_say_that_it_waits,
            reraise=True,
        )
        answer: Answer = asking(self._call_once, doing, work)
        return answer

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Wait for an MLflow that is away, in each call of the block, for at least so long.

        Args:
            seconds: From the first failure on, besides what MLflow's own retries take.

        Yields:
            Nothing.
        """
        before, self._patience_s = self._patience_s, seconds
        try:
            yield
        finally:
            self._patience_s = before

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str], patience_s: float, resumed: str | None = None) -> Iterator[str]:
        """Begin a run, or go on with one; it is finished when the block ends well, and failed when it raises.

        It is killed where the process is ended or an error says that the same command may succeed later.

        Args:
            name: Of the run.
            tags: Of the run.
            patience_s: How long calls in the block wait for an MLflow that is away.
            resumed: Id of the run to go on with; begun anew where MLflow has it no more.

        Yields:
            The run's id.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """
        run_id = (resumed and self._resumed(resumed, tags)) or self.begin(name, tags)
        try:
            with self.patient(patience_s):
                yield run_id
                self.end(run_id, "FINISHED")
        except BaseException as error:
            may_go_on = isinstance(error, TemporaryError) or not isinstance(error, Exception)
            self._end_broken(run_id, "KILLED" if may_go_on else "FAILED")
            raise

    def begin(self, name: str, tags: Mapping[str, str]) -> str:
        """Make a run, which is RUNNING until somebody ends it.

        Args:
            name: Of the run.
            tags: Of the run.

        Returns:
            Its id.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """

        def create(client: MlflowClient) -> str:
            made = client.create_run(self._find_experiment(client), tags=dict(tags), run_name=name)
            return str(made.info.run_id)

        return self.call("begin a run", create)

    def end(self, run_id: str, status: str) -> None:
        """End a run.

        Args:
            run_id: Of the run.
            status: FINISHED, FAILED or KILLED.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """
        self.call("end the run", lambda client: client.set_terminated(run_id, status=status))

    def log(self, run_id: str, measures: Sequence[Measure]) -> None:
        """Send measures, up to 1,000: MLflow's limit.

        Args:
            run_id: Of the run.
            measures: To send; those that MLflow has already are not doubled.

        Raises:
            ConfigError: MLflow has no such run, or refuses a name.
            TemporaryError: MLflow stays away.
        """
        from mlflow.entities import Metric

        metrics = [Metric(*measure) for measure in measures]
        self.call("log measures", lambda client: client.log_batch(run_id, metrics=metrics))

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Send parameters.

        Args:
            run_id: Of the run.
            params: Name → value of at most 6,000 characters.

        Raises:
            ConfigError: MLflow refuses a name, or a parameter has another value already.
            TemporaryError: MLflow stays away.
        """
        from mlflow.entities import Param

        entities = [Param(name, value) for name, value in params.items()]

        def send(client: MlflowClient) -> None:
            for start in range(0, len(entities), _PARAMS_PER_CALL):
                client.log_batch(run_id, params=entities[start : start + _PARAMS_PER_CALL])

        self.call("log parameters", send)

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Tag a run.

        Args:
            run_id: Of the run.
            name: Of the tag.
            value: Of the tag, at most 8,000 characters.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """
        self.call("tag the run", lambda client: client.set_tag(run_id, name, value))

    def search(self, condition: str) -> list[Run]:
        """Find runs of the experiment, deleted ones apart; the earliest begun first.

        Args:
            condition: In MLflow's search language.

        Returns:
            All of them.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """

        def find(client: MlflowClient) -> list[Run]:
            experiment, found, token = [self._find_experiment(client)], [], None
            while True:
                page = client.search_runs(
                    experiment,
                    condition,
                    max_results=_RUNS_PER_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found += page
                token = page.token
                if not token:
                    return found

        return self.call("look for runs", find)

    def files(self, location: str) -> ArtifactRepository:
        """Open the store that keeps a run's files: a folder, S3, or the server that passes them on.

        Args:
            location: The run's `artifact_uri`.

        Returns:
            MLflow's client of the store.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(location, tracking_uri=self.tracking_uri)

    def _call_once(self, doing: str, work: Callable[[MlflowClient], Answer]) -> Answer:
        with reaching_mlflow(self.tracking_uri, doing):
            if self._client is None:
                from mlflow import MlflowClient

                self._client = MlflowClient(tracking_uri=self.tracking_uri)
            return work(self._client)

    def _resumed(self, run_id: str, tags: Mapping[str, str]) -> str | None:
        def go_on(client: MlflowClient) -> None:
            client.update_run(run_id, status="RUNNING")
            for name, value in tags.items():
                client.set_tag(run_id, name, value)

        try:
            self.call("go on with a run", go_on)
        except ConfigError as error:
            logger.warning("run %s cannot be gone on with, a new one takes its place: %s", run_id, error)
            return None
        return run_id

    def _find_experiment(self, client: MlflowClient) -> str:
        if self.experiment_id is None:
            self.experiment_id = _experiment_id(client, self.experiment, self.artifact_location)
        return self.experiment_id

    def _end_broken(self, run_id: str, status: str) -> None:
        """End the run; where that fails, the error that broke it is the one to see."""
        try:
            with self.patient(0):  # where MLflow was away, patience is over
                self.end(run_id, status)
        except EmbftError as error:
            logger.warning("run %s goes on as RUNNING in MLflow, though it is %s: %s", run_id, status, error)


def _say_that_it_waits(state: RetryCallState) -> None:
    waits_s = state.next_action.sleep if state.next_action else 0.0
    problem = state.outcome.exception() if state.outcome else None
    logger.warning("asking MLflow again in %.1f s: %s", waits_s, problem)


def _experiment_id(client: Any, name: str, artifact_location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location))
    except MlflowException:
        # Another night's run may have made it in between.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
