"""One DAG for each model of a project: the real night's frame, and of its stages the one that trains in a pod."""

import os
from datetime import timedelta

from embft.airflow.night import Night
from embft.config import config_files, include_folder, load_config

include = include_folder()
for path in config_files(include):
    config = load_config(path)
    night = Night(config, include)
    dag = night.dag()
    # As a user sets it in a DAG file of their own.
    limit_s = os.environ.get(f"RUN_LIMIT_{config.name}")
    dag.dagrun_timeout = timedelta(seconds=float(limit_s)) if limit_s else None
    with dag:
        night.stage("fine_tune")
    globals()[dag.dag_id] = dag
