"""What the load check runs as a process of its own. A script: nothing of embft can be imported in it.

Started without any installed package (`python -I -S`), it finds the standard library and the folder of the order. It
reads the order from stdin, and writes what it found to the file that the order names.
"""

import json
import os
import sys
import traceback
from typing import Any

# By their ending, or by how they begin: a pickle of protocol 2 to 5, and the zip that torch.save puts one into.
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def main() -> None:
    """Load the version, and say which vectors it gives, or at which step it failed and why."""
    order = json.load(sys.stdin)
    sys.path.append(order["packages"])
    found: dict[str, Any] = {"step": "import mlflow"}
    try:
        import mlflow

        mlflow.set_tracking_uri(order["tracking_uri"])
        mlflow.set_registry_uri(order["tracking_uri"])
        found["step"] = "fetch"
        folder = mlflow.artifacts.download_artifacts(artifact_uri=order["model_uri"], dst_path=order["folder"])
        found["step"] = "look for pickles"
        found["pickles"] = pickles(folder)
        found["step"] = "load"
        served = mlflow.pyfunc.load_model(folder)
        found["step"] = "predict"
        found["vectors"] = [[float(number) for number in vector] for vector in served.predict(order["texts"])]
        found["step"] = "done"
    except Exception as error:
        found["error"] = "".join(traceback.format_exception_only(error)).strip()
    with open(order["answer"], "w", encoding="utf-8") as file:
        json.dump(found, file)


def pickles(folder: str) -> list[str]:
    """Name the files below a folder that may be pickles: loading one runs whatever is in it."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                if name.lower().endswith(_PICKLES) or file.read(4).startswith(_PICKLED):
                    found.append(os.path.relpath(os.path.join(parent, name), folder))
    return sorted(found)


if __name__ == "__main__":
    main()
