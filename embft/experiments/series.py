"""`Series`: the one run of an experiment whose measures go on for ever, such as a figure of every day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embft.experiments.connection import Connection, Measure

SERIES_TAG = "embft.series"
_PER_CALL = 500


class Series:
    """Measures of one experiment that no training ends.

    The oldest run with the series' tag keeps them. Two processes that both found none make a run each: whoever made
    the younger one notices after its work, writes into the older one too, and deletes its own.

    Args:
        mlflow: The experiment.
        name: Of the series and its run; letters, digits and _.
    """

    def __init__(self, mlflow: Connection, name: str) -> None:
        self._mlflow = mlflow
        self._name = name

    def log(self, points: Sequence[Measure]) -> str:
        """Add points; those that MLflow has already are not doubled.

        Args:
            points: Of any number of measures.

        Returns:
            Id of the run that keeps them.

        Raises:
            ConfigError: MLflow refuses.
            TemporaryError: MLflow stays away.
        """
        found = self._oldest()
        made = None if found else self._make()
        run_id = found or self._oldest() or made
        assert run_id is not None, "one was found or made"
        self._send(run_id, points)
        kept = self._oldest() or run_id
        if kept != run_id:
            self._send(kept, points)
        if made and made != kept:
            self._mlflow.call("delete a run", lambda client: client.delete_run(made))
        return kept

    def _oldest(self) -> str | None:
        runs = self._mlflow.search(f"tags.`{SERIES_TAG}` = '{self._name}'")
        return min(((it.info.start_time, it.info.run_id) for it in runs), default=(None, None))[1]

    def _make(self) -> str:
        def make(client: Any) -> str:
            made = client.create_run(
                str(self._mlflow.experiment_id), tags={SERIES_TAG: self._name}, run_name=self._name
            )
            # It ends at once, for MLflow's page: nothing runs between two points.
            client.set_terminated(made.info.run_id)
            return str(made.info.run_id)

        return self._mlflow.call("begin a run", make)

    def _send(self, run_id: str, points: Sequence[Measure]) -> None:
        for start in range(0, len(points), _PER_CALL):
            self._mlflow.log(run_id, points[start : start + _PER_CALL])
