"""YAML files that people edit: read with their lines, filled in from the environment, and explained when wrong."""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticCustomError

from embft.errors import ConfigError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

# Ten times as fast where it is there: Airflow reads every config and its suites each time it parses a DAG file.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class YamlFile:
    """A YAML file that knows on which line each of its keys stands.

    Args:
        path: The file.

    Raises:
        ConfigError: It is missing, cannot be read, is not YAML, or gives a key twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._line_of: dict[Location, int] = {}
        try:
            # The two steps of `yaml.safe_load`: between them the nodes still know their lines.
            loader = _LOADER(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
            self._read_lines(node, ())
            self._value: Any = None if node is None else loader.construct_document(node)
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None

    @property
    def content(self) -> Any:
        """What the file holds, with nothing filled in."""
        return self._value

    def expanded(self, kind: type) -> Any:
        """Give the content with `${NAME}` and `${NAME:-default}` filled in, as docker compose does.

        Args:
            kind: `dict` or `list`: what the file must hold.

        Returns:
            The content.

        Raises:
            ConfigError: The file holds something else, or a variable without a default is not set.
        """
        if not isinstance(self._value, kind):
            expected = "a mapping of settings" if kind is dict else "a list"
            raise ConfigError(f"{self.path}:1: expected {expected}, found {type(self._value).__name__}")
        return self._expand(self._value, ())

    def validated(self, content: Any, model: type[Model]) -> Model:
        """Check content of this file against a schema.

        Args:
            content: As of `expanded`.
            model: The schema.

        Returns:
            The model.

        Raises:
            ConfigError: One line for each fault: file, line, key, what was found, what is expected.
        """
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise ConfigError("\n".join(self._explained(error, content, model))) from None

    def fault(self, location: Location, message: str) -> ConfigError:
        """Make the error that names a key of this file.

        Args:
            location: Keys and indices from the file's top.
            message: What is wrong with it.

        Returns:
            The error, to be raised.
        """
        return ConfigError(f"{self.place(location)}: {_key(location, None)}: {message}")

    def place(self, location: Location) -> str:
        """Say where a key stands, or the section around it.

        Args:
            location: Keys and indices from the file's top.

        Returns:
            `<file>:<line>`.
        """
        known = location
        while known and known not in self._line_of:
            known = known[:-1]
        return f"{self.path}:{self._line_of.get(known, 1)}"

    def _read_lines(self, node: yaml.Node | None, location: Location) -> None:
        if node is None:
            return
        self._line_of.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._read_lines(value, (*location, index))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:bool":
                    key.tag = "tag:yaml.org,2002:str"  # YAML 1.1 reads the key `off` as false
                here = (*location, key.value)
                if here in self._line_of:
                    raise self.fault(here, f"is given again on line {key.start_mark.line + 1}; keep one of them")
                # A mapping starts on the line after its key; people look for the key.
                self._line_of[here] = key.start_mark.line + 1
                self._read_lines(value, here)

    def _expand(self, value: Any, location: Location) -> Any:
        if isinstance(value, dict):
            return {key: self._expand(part, (*location, key)) for key, part in value.items()}
        if isinstance(value, list):
            return [self._expand(part, (*location, index)) for index, part in enumerate(value)]
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self._look_up(match, location), value)
        return value

    def _look_up(self, match: re.Match[str], location: Location) -> str:
        name, default = match.groups()
        found: str | None = os.environ.get(name, default)
        if found is None:
            advice = f"set it, or give a default as ${{{name}:-value}}"
            raise self.fault(location, f"environment variable {name} is not set; {advice}")
        return found

    def _explained(self, error: ValidationError, content: Any, model: type[BaseModel]) -> Iterator[str]:
        for fault in error.errors():
            context = fault.get("ctx", {})
            location = (*fault["loc"], *context.get("at", ()))
            if fault["type"] == "extra_forbidden":
                message = f"unknown key{_suggestion(location, model)}"
            elif fault["type"] == "missing":
                message = "is missing; it is required"
            else:
                found = fault["input"]
                shown = "" if isinstance(found, dict | BaseModel) or "at" in context else f" (found {found!r})"
                message = fault["msg"].removeprefix("Value error, ") + shown
            if fault["type"] == "literal_error":
                close = difflib.get_close_matches(str(fault["input"]), re.findall(r"'(.*?)'", context["expected"]), n=1)
                message += f"; did you mean {close[0]!r}?" if close else ""
            yield f"{self.place(location)}: {_key(location, content)}: {message}"


def error_at(location: Location, message: str) -> PydanticCustomError:
    """Make the error of a validator that knows which key below its own section is at fault.

    Args:
        location: Keys and indices from the section's top.
        message: What is wrong with it.

    Returns:
        The error, to be raised; `YamlFile.validated` places it.
    """
    return PydanticCustomError("at", "{message}", {"message": message, "at": location})


def _key(location: Location, content: Any) -> str:
    """Write a location as people do: an element of a list that has a name goes by it."""
    parts = []
    for part in location:
        try:
            content = content[part]
        except (LookupError, TypeError):
            content = None
        name = content.get("name") if isinstance(part, int) and isinstance(content, dict) else None
        parts.append(name if isinstance(name, str) else str(part))
    return ".".join(parts) or "the file"


def _suggestion(location: Location, model: type[BaseModel]) -> str:
    known = list(_keys_beside(location, model))
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of {', '.join(known)}" if known else ""


def _keys_beside(location: Location, model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys that the section of `location` may hold."""
    section: Any = model
    for part in location[:-1]:
        section = _below(section, part)
    found = _model_in(section)
    if found is not None:
        yield from found.model_fields


def _below(annotation: Any, part: str | int) -> Any:
    """Find what an annotation says of one of its keys or elements; None where it says nothing."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _below(annotation.model_fields["root"].annotation, part)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if get_origin(annotation) in (list, tuple):
        return get_args(annotation)[0]
    return next((found for it in get_args(annotation) if (found := _below(it, part)) is not None), None)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the schema in an annotation: `Runtime`, `Kubernetes | None`, `tuple[Toleration, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)
