"""A DAG `rollback_<model>` for every config in `include/models/`: a person brings a former champion back.

rollback ─► tell
"""

from embft.airflow.project import read_project
from embft.airflow.rollback import rollback_dag

project = read_project(__file__)

# Wrong configs are raised by check_configs.py, as for retrain.py.
for config in project.configs:
    rollback_dag(config, project.include)
