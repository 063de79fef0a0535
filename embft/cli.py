"""`embft`: a command per stage, and what a person needs around them.

Each stage prints, with `--json`, its `result.json` on stdout and nothing else there; logs go to stderr. Exit codes:
0 done, 2 config or command line wrong, 3 data or model rejected, 75 temporary, anything else is a bug.
"""

import json
import logging
import signal
import sys
import warnings
from datetime import UTC, date, datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn

import typer

from embft.cli_alerts import alerts_app
from embft.cli_champions import history, rollback
from embft.cli_export import export
from embft.cli_metrics import metrics
from embft.cli_monitor import monitor
from embft.cli_prune import prune
from embft.cli_render_job import render_job
from embft.cli_search import search
from embft.cli_shared import Day, Model, exit_codes, parse_day, print_json, stdout_kept_for_the_result
from embft.cli_validate import validate
from embft.config import ModelConfig, config_files, config_path, include_folder, load_config
from embft.errors import ConfigError, DataRejected, TemporaryError
from embft.finetuning.processes import is_follower
from embft.pod import warnings_of_pods

app = typer.Typer(
    help="Keeps search embeddings fresh: nightly fine-tuning from clicks, gated and registered.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config_app = typer.Typer(help="The models' configs.", no_args_is_help=True)
app.add_typer(config_app, name="config")
logs_app = typer.Typer(help="Click logs.", no_args_is_help=True)
app.add_typer(logs_app, name="logs")
app.add_typer(alerts_app, name="alerts")


class ClickModelOption(StrEnum):
    """How people of the made-up shop click."""

    position = "position"
    cascade = "cascade"


class LogFormatOption(StrEnum):
    """How a log is written."""

    sessions = "sessions"
    events = "events"
    ubi = "ubi"


class Promote(StrEnum):
    """What becomes of a challenger that passes the gate."""

    auto = "auto"
    never = "never"
    force = "force"


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers; expected such as 1,0.6,0.4") from None


Json = Annotated[bool, typer.Option("--json", help="Print result.json on stdout, and nothing else there.")]
Force = Annotated[bool, typer.Option("--force", help="Work even where an up-to-date result exists.")]
PromoteOption = Annotated[
    Promote,
    typer.Option(
        help="never: register without promoting. force: promote also where the champion is of a newer day, or where "
        "these weights were rolled back."
    ),
]
WindowDays = Annotated[int | None, typer.Option(help="Length of the window in days, in place of window.days.")]


@app.command()
def plan(
    model: Model,
    day: Day,
    as_json: Json = False,
    force: Force = False,
    promote: PromoteOption = Promote.auto,
    window_days: WindowDays = None,
) -> None:
    """Freeze the night's config, and find the log days that need pulling."""
    _stage("plan", model, day, as_json, force, promote=promote.value, window_days=window_days)


@app.command()
def pull(
    model: Model,
    day: Day,
    as_json: Json = False,
    force: Force = False,
    log_day: Annotated[
        date | None,
        typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="Log day to pull; the night's own when left out."),
    ] = None,
    part: Annotated[int | None, typer.Option(min=1, help="Part of a big log day, as plan lists them.")] = None,
) -> None:
    """Turn one day's log objects into sessions, every line accounted for."""
    _stage("pull", model, day, as_json, force, log_day=log_day, part=part)


@app.command()
def validate_sessions(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Check the window's sessions and the catalogue with Great Expectations."""
    _stage("validate_sessions", model, day, as_json, force)


@app.command()
def preprocess_ranks(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Split by time into train, validation and test, and fill in every rank."""
    _stage("preprocess_ranks", model, day, as_json, force)


@app.command()
def validate_ranks(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Check the fine-tuning inputs with Great Expectations."""
    _stage("validate_ranks", model, day, as_json, force)


@app.command()
def fine_tune(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Train the challenger, tracked in MLflow."""
    _stage("fine_tune", model, day, as_json, force)


@app.command()
def evaluate(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Measure base, champion and challenger on the held-out clicks."""
    _stage("evaluate", model, day, as_json, force)


@app.command()
def gate(
    model: Model,
    day: Day,
    as_json: Json = False,
    force: Force = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the standing decision; decide nothing.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --explain: as Markdown, for a page.")] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE=LIMIT", help="Show what another limit would have decided; writes nothing."),
    ] = None,
) -> None:
    """Promote or reject the challenger; exit code 3 where it is rejected."""
    if not explain and not what_if:
        _stage("gate", model, day, as_json, force)
        return
    with exit_codes():
        from embft.stages.gate import decision_with, standing_decision

        if what_if:
            limits = dict(_limit(it) for it in what_if)
            with TemporaryDirectory(prefix="embft-gate-") as folder:
                decision = decision_with(model, day, limits, include=include_folder(), folder=Path(folder))
        else:
            decision = standing_decision(model, day, include=include_folder())
        if as_json:
            print_json(decision.to_json().decode())
        else:
            from embft.console import decision_markdown, print_decision

            typer.echo(decision_markdown(decision)) if markdown else print_decision(decision)


def _limit(text: str) -> tuple[str, float]:
    name, _, limit = text.partition("=")
    try:
        return name, float(limit)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no rule and limit; expected such as min_relative_gain=0.05") from None


@app.command()
def register(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Make an MLflow model version of an accepted challenger, and move the champion's alias."""
    _stage("register", model, day, as_json, force)


@app.command()
def publish(model: Model, day: Day, as_json: Json = False, force: Force = False) -> None:
    """Write the catalogue's vectors under the version that serves, then move the pointer."""
    _stage("publish", model, day, as_json, force)


@app.command()
def night(
    model: Model,
    day: Day,
    as_json: Json = False,
    force: Force = False,
    promote: PromoteOption = Promote.auto,
    window_days: WindowDays = None,
) -> None:
    """Run all stages of a night in this process, in the DAG's order; with --json one result per line."""
    with exit_codes():
        from embft.console import print_result
        from embft.stages.night import run_night

        rejected = False
        results = run_night(
            model, day, include=include_folder(), force=force, promote=promote.value, window_days=window_days
        )
        while True:
            with stdout_kept_for_the_result():
                result = next(results, None)
            if result is None:
                break
            rejected = rejected or result.status == "rejected"
            if as_json:
                print_json(result.model_dump_json())
            else:
                print_result(result)
        if rejected:
            raise typer.Exit(DataRejected.exit_code)


@app.command()
def report(
    model: Model,
    day: Day,
    to: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
) -> None:
    """Fetch a night's report as one HTML file."""
    with exit_codes():
        from embft.stages.gate import GATE_REPORT
        from embft.stages.stage import open_model, required_result

        _, storage, paths = open_model(model, include_folder())
        storage.fetch(required_result(storage, paths, day, "gate").output(GATE_REPORT), to)
        typer.echo(to)


app.command()(export)
app.command()(history)
app.command()(monitor)
app.command()(rollback)
app.command()(search)
app.command()(validate)
app.command()(render_job)
app.command()(prune)
app.command()(metrics)


@app.command()
def simulate(
    to: Annotated[str, typer.Option(help="Folder, or s3://bucket/prefix (endpoint from AWS_ENDPOINT_URL).")],
    first_day: Annotated[date, typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="First log day.")],
    days: Annotated[int, typer.Option(min=1, help="Number of log days.")] = 14,
    sessions_per_day: Annotated[int, typer.Option(min=1, help="Searches of an ordinary day.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same logs.")] = 7,
    broken_day: Annotated[
        date | None, typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="Day with a damaged log file.")
    ] = None,
    log_format: Annotated[
        LogFormatOption, typer.Option("--format", help="sessions: one search a line; events; ubi: OpenSearch UBI.")
    ] = LogFormatOption.sessions,
    click_model: Annotated[
        ClickModelOption, typer.Option(help="position: by rank; cascade: read from the top up to the first click.")
    ] = ClickModelOption.position,
    propensities: Annotated[
        Any,
        typer.Option(
            parser=_numbers,
            metavar="1,0.6,0.4",
            help="Probability that each rank is looked at, in place of 1/rank^0.8.",
        ),
    ] = None,
    trust_noise: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that what does not attract is clicked at rank 1.")
    ] = 0.03,
    late_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of clicks (sessions: lines) delivered on the next day.")
    ] = 0.0,
    bots: Annotated[float, typer.Option(min=0, help="Searches of a bot for each of people's.")] = 0.1,
    truth: Annotated[
        bool, typer.Option("--truth", help="Write truth/relevance.parquet and truth/propensities.json as well.")
    ] = False,
) -> None:
    """Write the click logs and the catalogue of a made-up shop: synthetic, and labelled so in every line."""
    with exit_codes():
        from embft.clickstream.delivery import deliver
        from embft.clickstream.simulator import load_shop
        from embft.clickstream.simulator import simulate as simulated

        shop = load_shop(include_folder() / "demo")
        objects = simulated(
            shop,
            first_day=first_day,
            days=days,
            sessions_per_day=sessions_per_day,
            seed=seed,
            broken_day=broken_day,
            click_model=click_model.value,
            propensities=propensities,
            trust_noise=trust_noise,
            log_format=log_format.value,
            late_share=late_share,
            bot_share=bots,
            truth=truth,
        )
        for where in deliver(objects, to):
            typer.echo(where)


@config_app.command("check")
def config_check() -> None:
    """Validate every config of include/models with its suites, and warn where a pod has more rights than it needs."""
    with exit_codes():
        faults: list[str] = []
        for path in config_files(include_folder()):
            try:
                config = load_config(path)
                for warning in warnings_of_pods(config, include_folder()):
                    typer.echo(f"warning: {warning}", err=True)
                found = _faults_of_suites(config)
            except ConfigError as error:
                found = str(error).splitlines()
            faults += found
            if not found:
                typer.echo(f"{path}: ok")
        if faults:
            # Models share suites, and so their faults.
            raise ConfigError("\n".join(dict.fromkeys(faults)))


def _faults_of_suites(config: ModelConfig) -> list[str]:
    if find_spec("great_expectations") is None:  # a scheduler needs none
        typer.echo(f"{config.name}: the suites were not built, as Great Expectations is not installed here", err=True)
        return []
    with stdout_kept_for_the_result():
        from embft.validation.suite_check import faults_of_suites

        return faults_of_suites(config.validation)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a config, for editors to complete from."""
    with warnings.catch_warnings():
        # A Python caller may give a callable where a config gives a name; JSON has no callables.
        warnings.simplefilter("ignore")
        print_json(json.dumps(ModelConfig.model_json_schema(), indent=2))


@config_app.command("show")
def config_show(model: Model) -> None:
    """Print a config as it is resolved: defaults, environment and suites filled in."""
    with exit_codes():
        print_json(load_config(config_path(include_folder(), model)).model_dump_json(indent=2))


@logs_app.command("inspect")
def logs_inspect(
    uri: Annotated[str, typer.Argument(help="s3://bucket/prefix (endpoint from AWS_ENDPOINT_URL), folder or file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Look at a sample of a click log: its format, fields and days, some sessions, and the config that reads it."""
    with exit_codes():
        from embft.clickstream.inspection import inspect_log

        found = inspect_log(uri, today=datetime.now(UTC).date())
        if as_json:
            # ASCII: the log's texts may hold what a terminal obeys, or half characters.
            print_json(json.dumps(found.model_dump(), default=str))
        else:
            from embft.console_logs import print_inspection

            print_inspection(found)
        if found.problem:
            raise DataRejected(found.problem)


def _stage(name: str, model: str, day: date, as_json: bool, force: bool, **options: Any) -> None:
    with exit_codes():
        from embft.stages.night import run_named

        with stdout_kept_for_the_result():
            result = run_named(name, model, day, include=include_folder(), force=force, **options)
        if is_follower():  # of a training whose result stands
            return
        if as_json:
            print_json(result.to_json().decode())
        else:
            from embft.console import print_result

            print_result(result)
        if result.status == "rejected":
            raise typer.Exit(DataRejected.exit_code)


class _Stopped(BaseException):
    """Told to stop. No Exception: a library that survives any of those (Great Expectations) would go on."""


def _told_to_stop(*_: object) -> NoReturn:
    raise _Stopped("stopped by SIGTERM before it was done; run the same command again")


def _stop_again_where_it_was_lost(lost: "sys.UnraisableHookArgs") -> None:
    # Raised within a destructor, or when a weak reference dies, Python drops any exception; a moment later it is raised
    # anew.
    if isinstance(lost.exc_value, _Stopped):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(lost)


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _told_to_stop)
    sys.unraisablehook = _stop_again_where_it_was_lost
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if is_follower() else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%X",
    )
    for noisy in ("botocore", "boto3", "s3transfer", "urllib3", "httpx", "alembic", "great_expectations"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app(prog_name="embft")
    except _Stopped as stop:
        typer.secho(f"error: {stop}", err=True, fg="red")
        sys.exit(TemporaryError.exit_code)
