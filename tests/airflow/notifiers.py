"""Notifiers that tests name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class FileNotifier(BaseNotifier):  # type: ignore[misc]
    """Writes down what it is told; what it is told is a template, as in Airflow's own notifiers."""

    template_fields: Sequence[str] = ("text",)
    template_ext: Sequence[str] = (".txt",)

    def __init__(self, *, path: str, text: str) -> None:
        self.path = path
        self.text = text
        super().__init__()

    def notify(self, context: Any) -> None:
        if self.text == "fail":
            raise RuntimeError("the chat is away")
        with Path(self.path).open("a") as file:
            file.write(self.text + "\n")
