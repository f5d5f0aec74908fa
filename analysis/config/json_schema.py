"""JSON Schema of settings files, with which editors complete and check TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.config.roles import ROLES
from analysis.config.toml_files import TABLES
from repsim.settings import Setting, Settings

__all__ = ["json_schema"]

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(tables: Mapping[str, type[Settings]] = TABLES) -> dict[str, Any]:
    """Return the schema of ``repsim.toml``, of files for ``--config`` and of sweep files.

    The table ``training`` also describes ``[grid]`` and ``[cases.NAME]``.
    """
    properties: dict[str, Any] = {name: _table(config) for name, config in tables.items()}
    if "training" in tables:
        properties["grid"] = _grid(tables["training"])
        properties["cases"] = {
            "type": "object",
            "description": "Of a sweep: settings that belong together, by the name of their case.",
            "additionalProperties": _table(tables["training"]),
        }
        properties["arms"] = {
            "type": "object",
            "description": "Of a design: groups of networks with a role, by name, with their settings of training.",
            "additionalProperties": _arm(tables["training"]),
        }
        properties["import"] = {
            "type": "array",
            "description": "Of repsim.toml: Python files or modules that register your own parts, such as my_parts.py.",
            "items": {"type": "string"},
        }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of repsim",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _table(config: type[Settings]) -> dict[str, Any]:
    properties = {each.name: _setting(each) for each in config.settings()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _arm(config: type[Settings]) -> dict[str, Any]:
    """Return the schema of an arm: its role, the method that a control is for, and settings of training."""
    table = _table(config)
    own = {
        "role": {"type": "string", "description": "Role of the arm.", "enum": list(ROLES)},
        "method": {"type": "string", "description": "Name of the method that a control is for."},
    }
    return {**table, "properties": {**own, **table["properties"]}, "required": ["role"]}


def _grid(config: type[Settings]) -> dict[str, Any]:
    """Return the schema of lists of values, of which a sweep trains every combination."""
    properties: dict[str, Any] = {
        each.name: {"type": "array", "description": each.help, "items": _value(each), "minItems": 1}
        for each in config.settings()
    }
    properties["seed"] = {"anyOf": [properties["seed"], {"type": "string", "examples": ["0-9", "0,3,5"]}]}
    description = "Of a sweep: lists of values; every combination is trained."
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _setting(setting: Setting) -> dict[str, Any]:
    schema = _value(setting)
    if setting.is_list:
        schema = {"type": "array", "items": schema}
        if setting.default:
            schema["minItems"] = 1
        if setting.unique:
            schema["uniqueItems"] = True
    schema = {**schema, "description": setting.help}
    if setting.default is not None:
        schema["default"] = list(setting.default) if setting.is_list else setting.default
    return schema


def _value(setting: Setting) -> dict[str, Any]:
    """Return the schema of one value."""
    schema: dict[str, Any] = {"type": _TYPES[setting.type]}
    if setting.choices is not None:
        schema["enum"] = list(setting.choices() if callable(setting.choices) else setting.choices)
    if setting.lowest is not None:
        schema["minimum"] = setting.lowest
    if setting.highest is not None:
        schema["maximum"] = setting.highest
    if setting.positive:
        schema["exclusiveMinimum"] = 0
    return schema
