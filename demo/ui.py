"""`make ui`: the demo's Airflow, MLflow and files, to click through the nights that were run."""

import signal
import sys

from demo.stack import HOME, stack

# MLflow opens on its pages for language-model apps otherwise, which are empty here. Experiment 0 is its own "Default".
_TRAINING_VIEW = "?workflowType=machine_learning"


def main() -> int:
    if not (HOME / "airflow").exists():
        print("ui: there is no demo yet; run `make demo` first", file=sys.stderr)
        return 2
    try:
        print("starting S3, MLflow and Airflow (about half a minute)", flush=True)
        with stack(keep_airflow=True) as running:
            print(f"Airflow  {running.airflow}/dags/retrain_demo  (a task's Details tab has its report and data docs)")
            print(f"MLflow   {running.mlflow}/#/experiments/1{_TRAINING_VIEW}")
            print(f"         {running.mlflow}/#/models/demo{_TRAINING_VIEW}")
            print(f"Files    {running.browse}/embft/models/demo/runs/")
            print("Ctrl-C ends it.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
