"""The last task of every DAG: people are told what happened, when nothing of the run is left that may still change it.

A teardown rather than callbacks: it comes after the last retry of whatever failed, it runs although a worker was
killed, it has retries of its own, and its failure is red without turning the night red.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from embft.airflow.command import tell_arguments
from embft.airflow.day import monitor_schedule, night_day
from embft.airflow.frame import task_arguments
from embft.airflow.gauges import emit
from embft.airflow.notify import notify_once
from embft.airflow.operators import StageOperator
from embft.airflow.outcome import explained, fail, last_error
from embft.airflow.process import Ended
from embft.airflow.run_facts import facts_of
from embft.alerts_config import load_channels
from embft.config import ModelConfig
from embft.errors import EXIT_OK, ConfigError, EmbftError, TemporaryError
from embft.monitoring.gauge import Gauge
from embft.monitoring.run_facts import Kind, RunFacts

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

TELL = "tell"
# A channel that is away keeps its messages for the next run; so this waits minutes for it, never hours.
_RETRIES = 3
_LIMIT = timedelta(minutes=15)

# Runs arguments of the model's interpreter, with more variables in their environment.
Run = Callable[[list[str], Mapping[str, str]], Ended]


class TellOperator(StageOperator):
    """Runs `python -m embft alerts tell …` on the worker, wherever the stages run: connections are Airflow's.

    Args:
        kind: What the DAG does.
        kwargs: Of `StageOperator`.
    """

    ui_color = "#fdf0d5"

    def __init__(self, *, kind: Kind, **kwargs: Any) -> None:
        super().__init__(stage=TELL, **kwargs)
        self.kind = kind

    def execute(self, context: "Context") -> None:
        """Tell what happened in this run, and whatever was kept because a channel was away.

        Args:
            context: The task's context.

        Raises:
            AirflowException: Something was kept that may be sent later.
            AirflowFailException: A channel is misconfigured.
        """
        with explained():
            config = self.read_config()
        # Whoever computes last month's nights looks at them; nobody is called for one of them.
        is_told = context["dag_run"].run_type != "backfill"
        facts = facts_of(context, self.kind, self._day(context, config)) if is_told else None
        tell(
            lambda arguments, environment: self._run(context, arguments, config, environment),
            config,
            Path(self.include),
            facts,
            emit,
        )

    def _day(self, context: "Context", config: ModelConfig) -> Any:
        if self.kind == "rollback":
            return None
        return night_day(context, monitor_schedule(config) if self.kind == "monitor" else config.schedule)


def tell_task(config: ModelConfig, include: Path, kind: Kind) -> TellOperator:
    """Make the last task of a DAG.

    Args:
        config: The model's config.
        include: The project's `include` folder.
        kind: What the DAG does.

    Returns:
        A teardown: downstream of the tasks that end a run, it changes nothing of the run's state.
    """
    arguments = task_arguments(config, include, TELL) | {"retries": _RETRIES, "execution_timeout": _LIMIT}
    del arguments["stage"]
    task: TellOperator = TellOperator(kind=kind, **arguments).as_teardown(on_failure_fail_dagrun=False)
    return task


def tell(
    run: Run,
    config: ModelConfig,
    include: Path,
    facts: RunFacts | None,
    metrics: Callable[[str, Iterable[Gauge]], None] | None = None,
) -> None:
    """Run the command that tells people, then do what only Airflow can: notifiers, and its metrics.

    Args:
        run: Runs the command.
        config: The model's config.
        include: The project's `include` folder.
        facts: Of the run; None where nothing of it is to be told.
        metrics: Takes the model's figures; None in a process that lives on, which would send them again for ever.

    Raises:
        AirflowException: Something was kept that may be sent later.
        AirflowFailException: A channel is misconfigured.
    """
    connections, faults = _connections(include)
    with tempfile.TemporaryDirectory(prefix="embft-tell-") as folder:
        file = Path(folder) / "run.json" if facts else None
        if file and facts:
            file.write_bytes(facts.to_json())
        ended = run(tell_arguments(config.name, file), connections)
    told = _printed(ended.output)
    faults += _notified(config, told["calls"] if told else [])
    if metrics and told:
        metrics(config.name, [Gauge.model_validate(it) for it in told["gauges"]])
    if ended.code == EXIT_OK and told is None:
        raise AirflowFailException(f"`embft alerts tell --json` printed no result but {ended.output[:200]!r}")
    _judge(ended, faults)


def _judge(ended: Ended, faults: list[EmbftError]) -> None:
    said = [last_error(ended.last_lines)] if ended.code != EXIT_OK else []
    said += map(str, faults)
    if not said:
        return
    code = ended.code or ConfigError.exit_code
    if code == ConfigError.exit_code and any(isinstance(it, TemporaryError) for it in faults):
        # What a person must correct is not tried in vain: it is what may work later that is tried again.
        code = TemporaryError.exit_code
    fail(code, "; ".join(said))


def _connections(include: Path) -> tuple[dict[str, str], list[EmbftError]]:
    """Fetch what channels need: variables for the command, and what went wrong."""
    try:
        channels = load_channels(include).channels.values()
    except ConfigError:
        # The command reads the same file, writes its messages first, and says what is wrong with it.
        return {}, []
    found: dict[str, str] = {}
    faults: list[EmbftError] = []
    for name in sorted({str(getattr(it, "connection", "")) for it in channels} - {""}):
        try:
            found[f"AIRFLOW_CONN_{name.upper()}"] = Connection.get(name).as_json()
        except AirflowNotFoundException:
            # The command names the channels that it is missing for.
            log.warning("Airflow has no connection %s, which include/alerts.yaml names", name)
        except Exception as error:
            faults.append(TemporaryError(f"the connection {name} could not be read: {error}"))
    return found, faults


def _printed(output: bytes) -> dict[str, Any] | None:
    """Read what the command printed; None where that is no result."""
    try:
        told = json.loads(output)
        return {name: list(told[name]) for name in ("calls", "gauges")}
    except (ValueError, KeyError, TypeError):
        return None


def _notified(config: ModelConfig, calls: list[dict[str, Any]]) -> list[EmbftError]:
    """Call notifiers, one channel after the other; give what went wrong."""
    faults: list[EmbftError] = []
    for channel, group in groupby(calls, key=itemgetter("channel")):
        try:
            notify_once(config, channel, list(group))
        except EmbftError as error:
            faults.append(type(error)(f"channel {channel}: {error}"))
            log.error("%s", faults[-1])
    return faults
