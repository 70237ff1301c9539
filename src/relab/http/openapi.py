"""The app class, whose OpenAPI document also holds the schemas that no route declares as a model.

The body of an ingest is read by hand, and problem documents have a media type of their
own, so FastAPI knows of neither; routes refer to them as components.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp

from relab.access.models import Scope
from relab.http.access import ScopeCheck
from relab.serving.security_headers import SecurityHeaders

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


def posted_components(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model that is sent to the server as JSON, and those of its parts, as components.

    They say that no text holds a NUL character, which `core/json.py` refuses anywhere in a body.
    """
    return {name: without_nul(schema) for name, schema in components(model, POSTED_REFERENCE).items()}


def documented_body(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is read by hand."""
    content = {"schema": reference(model, POSTED_REFERENCE), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def without_nul(schema: Any) -> Any:
    """Return a JSON Schema that allows what another one does, less texts and names with a NUL character."""
    if schema is True or schema == {}:
        return {"$ref": REFERENCE.format(model=ANY_JSON)}
    if isinstance(schema, list):
        return [without_nul(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: without_nul(value) if name in _INNER else value for name, value in schema.items()}
    found |= {
        name: {key: without_nul(each) for key, each in schema[name].items()} for name in _INNER_BY_NAME & schema.keys()
    }
    kind = schema.get("type")
    if kind == "string" and not schema.keys() & {"pattern", "format", "enum", "const"}:
        found["pattern"] = NO_NUL
    if kind == "object":
        found.setdefault("additionalProperties", {"$ref": REFERENCE.format(model=ANY_JSON)})
        if found["additionalProperties"] is not False:
            found.setdefault("propertyNames", {"pattern": NO_NUL})
    if kind is None and not schema.keys() & {"$ref", "anyOf", "oneOf", "allOf", "enum", "const"}:
        # A title or a description alone allows everything.
        found["$ref"] = REFERENCE.format(model=ANY_JSON)
    return found


ANY_JSON: Final = "AnyJson"
NO_NUL: Final = r"^[^\u0000]*$"
_INNER: Final = {"items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems"}
_INNER_BY_NAME: Final = {"properties", "$defs"}
_ANY: Final = {"$ref": REFERENCE.format(model=ANY_JSON)}
ANY_JSON_SCHEMA: Final = {
    "description": "Any JSON in which no text and no name holds a NUL character.",
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": NO_NUL},
        {"type": "array", "items": _ANY},
        {"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": _ANY},
    ],
}

BEARER: Final = "token"
INGEST_SECRET: Final = "ingestSecret"  # noqa: S105 a name in the document
_CREDENTIALS: Final = {
    BEARER: {"type": "http", "scheme": "bearer", "description": "A token of `lab auth create-token`."},
    INGEST_SECRET: {"type": "apiKey", "in": "header", "name": "X-Ingest-Secret", "description": "`APP_INGEST_SECRET`."},
}


class DocumentedApi(FastAPI):
    """A FastAPI app that adds `extra_schemas` to the components of its OpenAPI document, and headers to every answer.

    It serves the document by routes of its own (`docs.py`), and not by FastAPI's, which need no token.
    """

    def __init__(self, *, extra_schemas: dict[str, Any], **settings: Any) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, **settings)
        self._extra_schemas = extra_schemas

    def build_middleware_stack(self) -> ASGIApp:
        """Return the app with its middleware; outside of all of it, so that no answer is without, the headers."""
        return SecurityHeaders(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """Return the document; FastAPI keeps it after the first time."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(self._extra_schemas)
        return document

    def described(self, *, is_open: bool, has_ingest_secret: bool = False) -> dict[str, Any]:
        """Return the document with the credentials that each route takes.

        Args:
            is_open: the installation takes requests from this machine without a token, so none is described for them.
            has_ingest_secret: posting runs also takes the ingest secret.
        """
        document = copy.deepcopy(self.openapi())
        document["components"]["securitySchemes"] = _CREDENTIALS
        if is_open and not has_ingest_secret:
            del document["components"]["securitySchemes"]
            return document
        for route in (route for router in self.state.routers for route in router.routes):
            scope = _scope_of(route)
            if scope is None or not route.include_in_schema:
                continue
            takes: list[dict[str, list[str]]] = [] if is_open and scope is not Scope.INGEST else [{BEARER: []}]
            if has_ingest_secret and scope is Scope.INGEST:
                takes.append({INGEST_SECRET: []})
            for method in route.methods:
                document["paths"][route.path_format][method.lower()]["security"] = takes
        return document


def _scope_of(route: Any) -> Scope | None:
    """Return the scope that a route declares; None if it declares that it is public, or takes another credential."""
    checks = [each.dependency for each in getattr(route, "dependencies", ())]
    return next((check.scope for check in checks if isinstance(check, ScopeCheck)), None)
