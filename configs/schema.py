"""The JSON schema of topology files, made from the tables of keys that the reader checks by.

Rule module. `icsim schema` prints it, so that editors complete and check topology files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from configs.keys import CANISTER, FEES, IDENTITIES, INVARIANT, LIMITS, OUTCALL, SETTINGS, SUBNET, TOPOLOGY, WORKLOAD, Form, Key

Schema = dict[str, Any]
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"}
_TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def topology_schema() -> Schema:
    """The schema, draft 2020-12."""
    inner: dict[str, Sequence[Key]] = {
        "limits": LIMITS,
        "fees": FEES,
        "subnet": SUBNET,
        "canister": CANISTER,
        "workload": WORKLOAD,
        "invariant": INVARIANT,
        "settings": SETTINGS,
        "outcall": OUTCALL,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "icsim topology",
        "description": "Subnets, canisters and workload of a network.",
        **_table(TOPOLOGY, inner),
    }


def _table(keys: Sequence[Key], inner: dict[str, Sequence[Key]]) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {key.name: _key(key, inner) for key in keys},
        "additionalProperties": False,
    }
    if required := [key.name for key in keys if key.required]:
        schema["required"] = required
    return schema


def _key(key: Key, inner: dict[str, Sequence[Key]]) -> Schema:
    meaning = key.meaning + (f" (default: {key.default})" if key.default else "")
    schema: Schema = {"description": meaning, **_form(key, inner)}
    if key.choices:
        schema["enum"] = list(key.choices)
    return schema


def _form(key: Key, inner: dict[str, Sequence[Key]]) -> Schema:
    number = {"type": "integer", "minimum": key.low, "maximum": key.high}
    match key.form:
        case Form.TEXT:
            return {"type": "string"}
        case Form.NAME:
            return dict(_NAME)
        case Form.INT:
            return number
        case Form.CYCLES:
            return {"anyOf": [number, {"type": "string", "pattern": "^[0-9][0-9_]*\\s*[KMBT]?$"}]}
        case Form.BOOL:
            return {"type": "boolean"}
        case Form.TEXTS:
            return dict(_TEXTS)
        case Form.TIME:
            return {"type": "string", "format": "date-time"}
        case Form.TABLE:
            return _table(inner[key.name], inner)
        case Form.TABLES:
            return {"type": "array", "items": _table(inner[key.name], inner), "minItems": 1 if key.required else 0}
        case Form.NAMES:
            return {"anyOf": [{"type": "array", "items": dict(_NAME), "minItems": 1}, _table(IDENTITIES, inner)]}
        case Form.HEX:
            return {"type": "string", "pattern": "^([0-9a-fA-F]{2}\\s*)*$"}
