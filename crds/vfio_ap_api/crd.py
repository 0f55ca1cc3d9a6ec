"""From a pydantic model to a CustomResourceDefinition: structural schema, CEL rules, printer columns.

pydantic writes JSON Schema with references, titles and unions; the API server wants a structural schema without
any of them. This module translates and adds nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from vfio_ap_api.base import GROUP, VERSION

_DROPPED = ("title", "additionalProperties", "default_factory")


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column."""

    name: str
    type: str
    path: str
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the whole object; one that names ``oldSelf`` holds for updates."""

    rule: str
    message: str
    path: str = ""
    """The field that an error names, such as ``.spec.uuid``; empty for the object."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Everything that a CRD says beside its schema."""

    model: type[BaseModel]
    plural: str
    short_names: tuple[str, ...]
    namespaced: bool
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()

    @property
    def name(self) -> str:
        """Return the kind's name."""
        return self.model.__name__

    @property
    def api_version(self) -> str:
        """Return the group and version."""
        return f"{GROUP}/{VERSION}"


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """Return the CRD of a kind as a document."""
    singular = kind.name.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": singular,
                "shortNames": list(kind.short_names),
                "categories": ["ap"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    document: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        document["description"] = column.description
    if column.priority:
        document["priority"] = column.priority
    return document


def _rule(rule: Rule) -> dict[str, Any]:
    return {"rule": rule.rule, "message": rule.message} | ({"fieldPath": rule.path} if rule.path else {})


def _object_schema(kind: Kind) -> dict[str, Any]:
    schema = kind.model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    result = _structural(schema, definitions)
    result["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": result["properties"]["spec"],
        "status": result["properties"]["status"],
    }
    # A default in a status would claim what nobody read back, and would make every write differ from its echo.
    _without_defaults(result["properties"]["status"])
    result["required"] = [name for name in result.get("required", []) if name == "spec"]
    if kind.rules:
        result["x-kubernetes-validations"] = [_rule(rule) for rule in kind.rules]
    return result


def _without_defaults(schema: dict[str, Any]) -> None:
    schema.pop("default", None)
    for child in schema.get("properties", {}).values():
        _without_defaults(child)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            _without_defaults(schema[name])


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = dict(schema)
    if reference := schema.pop("$ref", None):
        target = _structural(definitions[reference.rsplit("/", 1)[1]], definitions)
        return {**target, **_structural(schema, definitions)}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("anyOf", None)
    if (union := schema.pop("anyOf", None)) is not None:
        (only,) = [branch for branch in union if branch.get("type") != "null"]
        schema = {**_structural(only, definitions), **schema}
        schema.pop("default", None)
    extra = schema.get("additionalProperties")
    for name in _DROPPED:
        schema.pop(name, None)
    if isinstance(extra, dict):
        schema["additionalProperties"] = _structural(extra, definitions)
    if "x-kubernetes-validations" in schema:
        # The rule says the same in words; the API server would show the regular expression as well.
        schema.pop("pattern", None)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "properties" in schema:
        schema["properties"] = {
            name: _structural(value, definitions) for name, value in schema["properties"].items()
        }
    if "items" in schema:
        schema["items"] = _structural(schema["items"], definitions)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema
