"""The app class, whose OpenAPI document also holds the schemas that no route declares as a model.

The body of an ingest is read by hand, and problem documents have a media type of their
own, so FastAPI knows of neither; routes refer to them as components.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"
POSTED_REFERENCE = "#/components/schemas/{model}-Input"
"""FastAPI's own name for the schema of a model that is sent to the server."""


def reference(model: type[BaseModel], template: str = REFERENCE) -> dict[str, Any]:
    """Return the reference to the component of a model that is in `SchemaDocument`."""
    return {"$ref": template.format(model=model.__name__)}


def components(model: type[BaseModel], template: str = REFERENCE) -> dict[str, Any]:
    """Return the schema of a model and those of its parts, by their names as components."""
    schema = model.model_json_schema(ref_template=template)
    parts = schema.pop("$defs", {})
    name = template.removeprefix("#/components/schemas/")
    return {name.format(model=part): value for part, value in {**parts, model.__name__: schema}.items()}


class DocumentedApi(FastAPI):
    """A FastAPI app that adds `extra_schemas` to the components of its OpenAPI document."""

    def __init__(self, *, extra_schemas: dict[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self._extra_schemas = extra_schemas

    def openapi(self) -> dict[str, Any]:
        """Return the document; FastAPI keeps it after the first time."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(self._extra_schemas)
        return document
