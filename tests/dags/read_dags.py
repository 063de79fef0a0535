"""Reads the DAG files as Airflow's DAG processor does, in a fresh interpreter, and prints what it found as JSON."""

import json
import sys
import time


def main() -> None:
    import airflow.sdk  # noqa: F401 - what every DAG file pays for anyway
    from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: F401

    begun = time.process_time()  # not the clock on the wall: others use this machine too
    import runpy

    for name in ("retrain", "monitor", "rollback"):
        runpy.run_path(f"{sys.argv[1]}/{name}.py")
    seconds = time.process_time() - begun
    heavy = sorted(set(sys.argv[2].split(",")) & set(sys.modules))

    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="tests")
    dags = {}
    for dag_id, dag in bag.dags.items():
        again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        dags[dag_id] = {
            "edges": sorted([task.task_id, down] for task in dag.tasks for down in task.downstream_task_ids),
            "tasks": {task.task_id: facts(task) for task in dag.tasks},
            "tags": sorted(dag.tags),
            "doc": dag.doc_md,
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "start_date": dag.start_date.isoformat(),
            "timetable": again.timetable.serialize(),
            "paused": dag.is_paused_upon_creation,
            "params": dag.params.dump(),
            "schemas": {name: dag.params.get_param(name).schema for name in dag.params},
            "descriptions": {name: dag.params.get_param(name).description for name in dag.params},
            "retries": dag.default_args["retries"],
            "can_skip": [task.task_id for task in again.tasks if task.inherits_from_skipmixin],
            "teardowns": {it.task_id: it.on_failure_fail_dagrun for it in again.tasks if it.is_teardown},
            "deadlines": [{"hours": it.interval / 3600, "callback": it.callback.path} for it in dag.deadline or []],
            "links": {task.task_id: task.extra_links for task in again.tasks},
        }
    found = {"seconds": seconds, "heavy": heavy, "errors": bag.import_errors, "dags": dags}
    print("\n" + json.dumps(found))


def facts(task: object) -> dict[str, object]:
    names = ("owner", "retries", "doc_md", "trigger_rule", "task_type", "is_mapped", "retry_exponential_backoff")
    found = {name: getattr(task, name) for name in names}
    found["pool"] = task.pool  # type: ignore[attr-defined]
    found["outlets"] = [[it.name, it.uri] for it in task.outlets]  # type: ignore[attr-defined]
    found["retry_delay_s"] = task.retry_delay.total_seconds()  # type: ignore[attr-defined]
    found["limit_s"] = task.execution_timeout.total_seconds()  # type: ignore[attr-defined]
    return found


if __name__ == "__main__":
    main()
