"""`make ui`: the demo's Airflow, MLflow and files, to click through the nights that were run."""

import signal
import sys

from demo.stack import HOME, stack


def main() -> int:
    if not (HOME / "airflow").exists():
        print("ui: there is no demo yet; run `make demo` first", file=sys.stderr)
        return 2
    with stack(keep_airflow=True) as running:
        print(f"Airflow  {running.airflow}/dags/retrain_demo")
        print(f"MLflow   {running.mlflow}")
        print(f"Files    {running.browse}")
        print("Ctrl-C ends it.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")
    return 0


if __name__ == "__main__":
    sys.exit(main())
