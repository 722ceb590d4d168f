"""Configs: frozen, checked, explained, and read from YAML with ``key=value`` changes.

A config lives in the file of what it builds. Where several can stand in one place, each has ``kind: Literal[...]`` and the
place's type is their union, discriminated on ``kind``. A key that no config has is refused with the nearest that exists.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lamella.core.errors import UserError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all configs: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def load(cls: type[C], values: Mapping[str, Any], source: str = "config") -> C:
        """Validate ``values``, turning pydantic's report into one clear error that names ``source``."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(explain(error, cls, source)) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``load`` accepts and YAML can hold."""
        return self.model_dump(mode="json")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, not keys with values; see the recipes for examples")
    return values


def override(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """``values`` with ``key.sub=value`` changes applied; the right side is read as YAML.

    >>> override({"a": {"b": 1}}, ["a.b=2", "c=[1, 2]"])
    {'a': {'b': 2}, 'c': [1, 2]}
    """
    result = _copy(values)
    for change in changes:
        key, sep, text = change.partition("=")
        if not sep or not key:
            raise UserError(f"{change!r} is not KEY=VALUE; write for example trainer.steps=100")
        node: Any = result
        *parents, last = key.split(".")
        for name in parents:
            node = _child(node, name, key)
        value = _value(text, change)
        if isinstance(node, list):
            node[_index(node, last, key)] = value
        else:
            node[last] = value
    return result


def _value(text: str, change: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(f"the value in {change!r} is not valid YAML: {problem}; check brackets and quotes") from None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def _child(node: Any, name: str, key: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, name, key)]
    if node.get(name) is None:
        node[name] = {}
    if not isinstance(node[name], dict | list):
        raise UserError(f"{key!r} goes into {name!r}, which is {node[name]!r} and has no keys")
    return node[name]


def _index(node: list[Any], name: str, key: str) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise UserError(
            f"{key!r} names item {name!r} of a list of {len(node)}; give a number from 0 to {len(node) - 1}"
        )
    return int(name)


def explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """One line per problem: where, what was given, what is needed."""
    errors = error.errors()
    places = [e["loc"] for e in errors]
    inner = [e for e in errors if not any(e["loc"] == place[: len(e["loc"])] != place for place in places)]
    return "\n".join(
        _explain_one(e, model, source) for e in inner
    )  # a list with a bad item is also reported as too short


def _explain_one(e: Any, model: type[BaseModel], source: str) -> str:
    where = ".".join(_walk(model, e["loc"])[1])
    if e["type"] == "extra_forbidden":
        known = _keys_at(model, e["loc"][:-1])
        near = difflib.get_close_matches(str(e["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(known)) or 'none'}"
        return f"{source}: unknown key {where!r}; {hint}"
    if e["type"] == "missing":
        return f"{source}: key {where!r} is missing; add it"
    if e["type"] == "union_tag_not_found":
        kinds = [m.model_fields["kind"].default for m in _walk(model, e["loc"])[0] if "kind" in m.model_fields]
        return f"{source}: key '{where}.kind' is missing; add it, one of {', '.join(kinds)}"
    message = e["msg"].removeprefix("Value error, ")
    given = "" if isinstance(e["input"], dict) else f" is {e['input']!r}"
    return f"{source}: {where!r}{given}: {message}" if where else f"{source}: {message}"


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The field names that are valid at ``loc`` below ``model``."""
    return [name for m in _walk(model, loc)[0] for name in m.model_fields]


def _walk(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[type[BaseModel]], list[str]]:
    """The models at ``loc`` below ``model``, and the keys that lead there: ``loc`` names the kind after a union, a recipe does not."""
    models, keys = [model], []
    for part in loc:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        if fields:
            models = [m for f in fields for m in _models_in(f.annotation)]
        elif tagged:
            models = tagged
            continue
        keys.append(str(part))
    return models, keys


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in _models_in(arg)]
