"""HTTP routes for the shop's customers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response

from relab.testbed.target.parts import Parts
from relab.testbed.target.shop import OrderRequest


def shop_routes(parts: Parts) -> APIRouter:
    """Return the routes for the shop's customers: product pages, search and orders."""
    routes = APIRouter(prefix="/api/v1", tags=["shop"])
    shop = parts.shop

    @routes.get("/products/{product_id}", summary="A product page")
    async def product(product_id: Annotated[int, Path(ge=1, le=2_147_483_647)]) -> Response:
        """Return a product with its price and its stock."""
        return Response(await shop.product(product_id), media_type="application/json")

    @routes.get("/search", summary="The nearest products to a text")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=200)], top_k: Annotated[int, Query(ge=1, le=200)] = 10
    ) -> JSONResponse:
        """Return the `top_k` products most similar to the text `q`, nearest first, and the index that answered."""
        return JSONResponse(await shop.find(q, top_k))

    @routes.post("/orders", summary="Place an order", status_code=201)
    async def place(order: OrderRequest) -> JSONResponse:
        """Place an order: take the goods from the stock and store the order, or change nothing if that fails."""
        return JSONResponse(await shop.place(order), status_code=201)

    @routes.get("/orders/{order_id}", summary="An order")
    async def order(order_id: Annotated[str, Path(min_length=1, max_length=64)]) -> JSONResponse:
        """Return an order, with the order numbers of its customer's latest orders."""
        placed: dict[str, Any] = await shop.order(order_id)
        return JSONResponse(placed)

    return routes
