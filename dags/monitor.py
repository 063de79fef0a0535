"""A DAG `monitor_<model>` for every config in `include/models/`: the champion on yesterday's clicks, without training.

    monitor ─► tell

It runs on days when retraining failed, too. What the tasks do, and what to do when one is red, stands on their pages.
"""

from embft.airflow.monitor import monitor_dag
from embft.airflow.project import read_project

project = read_project(__file__)

# Wrong configs are raised by check_configs.py, as for retrain.py.
for config in project.configs:
    monitor_dag(config, project.include)
