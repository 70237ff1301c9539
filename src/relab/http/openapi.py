"""The FastAPI app class, which completes the OpenAPI document that FastAPI generates.

FastAPI does not describe a request body that a dependency reads (`DocumentedBody`), so this class adds it. It also adds
schemas that routes only refer to, such as the schema of problem documents.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import ASGIApp

from relab.access.models import Scope
from relab.http.access import ScopeCheck
from relab.serving.security_headers import SecurityHeaders

REFERENCE = "#/components/schemas/{model}"
POSTED_REFERENCE = "#/components/schemas/{model}-Input"
"""FastAPI's own name for the schema of a model that is sent to the server."""


def reference(model: type[BaseModel], template: str = REFERENCE) -> dict[str, Any]:
    """Return the JSON Schema reference (`$ref`) to a model's schema in the OpenAPI document.

    `template` is the text of the reference, in which `{model}` stands for the model's name.
    """
    return {"$ref": template.format(model=model.__name__)}


def components(model: type[BaseModel], template: str = REFERENCE) -> dict[str, Any]:
    """Return the JSON Schemas of a model and of the models in it, by their names in the OpenAPI document.

    Args:
        model: the model.
        template: the text of a reference to a schema, in which `{model}` stands for the model's name. Its last part
            names the schema in the result: `#/components/schemas/{model}-Input` gives `Run-Input` for `Run`.
    """
    schema = model.model_json_schema(ref_template=template)
    parts = schema.pop("$defs", {})
    name = template.removeprefix("#/components/schemas/")
    return {name.format(model=part): value for part, value in {**parts, model.__name__: schema}.items()}


def posted_components(model: type[BaseModel], *, replaces_nul: bool = False) -> dict[str, Any]:
    """Return the JSON Schemas of a request body's model and of all models that it uses, by name.

    The schemas forbid NUL characters in all texts, unless the route replaces these characters (`replaces_nul`).
    """
    found = components(model, POSTED_REFERENCE)
    # `core/json.py` rejects NUL anywhere in a body.
    return found if replaces_nul else {name: without_nul(schema) for name, schema in found.items()}


class DocumentedBody(ABC):
    """The base class of FastAPI dependencies that read a JSON body; it describes the body in the OpenAPI document.

    FastAPI itself reads a body before it checks the caller's scope. A dependency can read the body after this check,
    and can limit its size and the time to receive it.

    Args:
        model: the model whose schema describes the body in the document.
        example: an example of the body, for the document.
        is_optional: whether a request may have no body.
        replaces_nul: whether NUL characters in texts are replaced by U+FFFD instead of rejected.
    """

    def __init__(
        self, model: type[BaseModel], *, example: Any, is_optional: bool = False, replaces_nul: bool = False
    ) -> None:
        self.model = model
        self.example = example
        self.is_optional = is_optional
        self.replaces_nul = replaces_nul

    @abstractmethod
    async def __call__(self, *_args: Any, **_options: Any) -> Any:
        """Read the body and return it. FastAPI calls this method with the parameters that the subclass declares."""

    def described(self) -> dict[str, Any]:
        """Return the `requestBody` of a route with this body, for the OpenAPI document."""
        content = {"schema": reference(self.model, POSTED_REFERENCE), "example": self.example}
        return {"required": not self.is_optional, "content": {"application/json": content}}


class BodyReadByRoute(DocumentedBody):
    """A dependency that only documents the body; the route itself reads it."""

    async def __call__(self) -> None:
        """Do nothing: FastAPI calls every dependency of a route, but here the route itself reads the body."""


def without_nul(schema: Any) -> Any:
    """Return a JSON Schema that also forbids NUL characters in all texts and names."""
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
    "description": "Any JSON in which no text and no name contains a NUL character.",
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
    """A FastAPI app that completes its OpenAPI document, and adds security headers to every response.

    The routes of `api/docs.py` serve the document.
    """

    def __init__(self, *, extra_schemas: dict[str, Any], **settings: Any) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, **settings)
        self._extra_schemas = extra_schemas

    def build_middleware_stack(self) -> ASGIApp:
        """Return the app with its middleware. The security headers are outermost, so every response has them."""
        return SecurityHeaders(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document without credentials (`described` adds them). The first call builds it."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {ANY_JSON: ANY_JSON_SCHEMA} | self._extra_schemas
        for route in self._product_routes():
            for body in _bodies_of(route.dependant):
                schemas |= posted_components(body.model, replaces_nul=body.replaces_nul)
                for method in route.methods or ():
                    document["paths"][route.path_format][method.lower()]["requestBody"] = body.described()
        return document

    def _product_routes(self) -> Iterator[APIRoute]:
        for router in self.state.routers:
            yield from (route for route in router.routes if isinstance(route, APIRoute) and route.include_in_schema)

    def described(self, *, is_open: bool, has_ingest_secret: bool = False) -> dict[str, Any]:
        """Return a copy of the OpenAPI document that also describes the credentials that each route accepts.

        Args:
            is_open: whether requests from this machine need no token.
            has_ingest_secret: whether the settings contain an ingest secret. If so, the ingest routes require a token,
                or this secret in the header `X-Ingest-Secret`.
        """
        document = copy.deepcopy(self.openapi())
        document["components"]["securitySchemes"] = _CREDENTIALS
        if is_open and not has_ingest_secret:
            del document["components"]["securitySchemes"]
            return document
        for route in self._product_routes():
            scope = _scope_of(route)
            if scope is None:
                continue
            takes: list[dict[str, list[str]]] = [] if is_open and scope is not Scope.INGEST else [{BEARER: []}]
            if has_ingest_secret and scope is Scope.INGEST:
                takes.append({INGEST_SECRET: []})
            for method in route.methods or ():
                document["paths"][route.path_format][method.lower()]["security"] = takes
        return document


def _bodies_of(dependant: Dependant) -> Iterator[DocumentedBody]:
    for each in dependant.dependencies:
        if isinstance(each.call, DocumentedBody):
            yield each.call
        yield from _bodies_of(each)


def _scope_of(route: APIRoute) -> Scope | None:
    """Return the scope that a route requires; None for a public route, or one with credentials other than tokens."""
    checks = [each.dependency for each in route.dependencies]
    return next((check.scope for check in checks if isinstance(check, ScopeCheck)), None)
