"""Raises what is wrong in `include/models/`, so that Airflow shows it among its import errors. Holds no DAG.

Airflow stops scheduling all DAGs of a file that has an import error. Raised here, a broken config stops its own
model's DAG (it leaves the list until the config is mended), and no other.
"""

from embft.airflow.project import raise_faults, read_project

raise_faults(read_project(__file__))
