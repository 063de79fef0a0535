"""Monitoring that runs in a pod."""

from embft.airflow.monitor import MonitorTask
from embft.airflow.pods import StagePodOperator


class MonitorPodOperator(MonitorTask, StagePodOperator):
    """Runs `python -m embft monitor …` in a pod, which gets no GPU."""
