"""Where a DAG file finds the configs, and how one broken config is kept from stopping the other models.

An import error in a DAG file makes Airflow stop scheduling *every* DAG of that file. So `dags/retrain.py` builds the
models whose config is right, and `dags/check_configs.py`, which holds no DAG, raises the faults of the others: the
interface shows them in its list of import errors, and no healthy model misses its night.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from airflow.sdk import CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowTimetableInvalid

from embft.airflow.day import monitor_schedule
from embft.config import ModelConfig, Schedule, config_files, load_config, pod_template
from embft.errors import ConfigError


@dataclass(frozen=True)
class Project:
    """The configs of a project, read once per parse.

    Args:
        include: The project's `include` folder, absolute.
        configs: The configs that are right, ordered by name.
        faults: One message for each config that is wrong.
    """

    include: Path
    configs: tuple[ModelConfig, ...]
    faults: tuple[str, ...]


def read_project(dag_file: str) -> Project:
    """Read every config beside a DAG file.

    Args:
        dag_file: The DAG file's `__file__`; `include/` lies beside its folder unless $EMBFT_INCLUDE says otherwise.

    Returns:
        Right configs and faults. A project without any config has a fault too.
    """
    # Not resolved: where a git-sync link is swapped, the link stays right and its old target goes away.
    beside = Path(dag_file).absolute().parent.parent / "include"
    include = Path(os.environ.get("EMBFT_INCLUDE") or beside).absolute()
    configs: list[ModelConfig] = []
    faults: list[str] = []
    try:
        paths = config_files(include)
    except ConfigError as error:
        return Project(include, (), (str(error),))
    for path in paths:
        try:
            config = load_config(path)
            # What else would stop the file that holds all models' DAGs.
            _check_cron(timetable_of(config.schedule), "schedule.cron", path)
            _check_cron(timetable_of(monitor_schedule(config)), "monitoring.cron", path)
            pod_template(config, include)
        except ConfigError as error:
            faults.append(str(error))
        else:
            configs.append(config)
    return Project(include, tuple(configs), tuple(faults))


def raise_faults(project: Project) -> None:
    """Raise what is wrong with the project's configs, all at once.

    Args:
        project: As read.

    Raises:
        ConfigError: There is at least one fault; the message has a paragraph for each.
    """
    if project.faults:
        raise ConfigError("\n".join(project.faults))


def timetable_of(schedule: Schedule) -> CronDataIntervalTimetable:
    """Give the timetable of a schedule: each run owns the interval that starts on its day.

    Args:
        schedule: Of a model's nights, or of its monitoring.

    Returns:
        The timetable, unchecked.
    """
    return CronDataIntervalTimetable(schedule.cron, timezone=schedule.timezone)


def _check_cron(timetable: CronDataIntervalTimetable, key: str, path: Path) -> None:
    # Airflow finds a bad cron only when it takes the DAG in, and then blames the whole DAG file.
    try:
        timetable.validate()
    except AirflowTimetableInvalid as error:
        raise ConfigError(
            f"{path}: {key}: is {timetable.expression!r}, which is no cron expression ({error}); "
            'expected five fields such as "0 2 * * *"'
        ) from None
