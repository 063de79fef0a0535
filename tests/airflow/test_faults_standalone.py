"""What only a scheduler and a triggerer show: killed workers, a restarted triggerer, marked tasks, time limits."""

import pytest

from tests.airflow.fault_table import committed, rows_by_standalone

pytestmark = [pytest.mark.airflow, pytest.mark.standalone]


def test_the_table_in_the_docs_is_what_happens_in_a_whole_airflow(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = rows_by_standalone(tmp_path_factory.mktemp("standalone"))
    assert committed()[-len(made) :] == made
