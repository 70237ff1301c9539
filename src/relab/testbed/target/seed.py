"""The shop's initial data: the same products, stock and orders on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

SCHEMA_PATH: Final = Path(__file__).with_name("schema.sql")
_SEED: Final = 20_240_601
PRODUCTS: Final = 5_000
ORDERS: Final = 200_000
STOCK: Final = 1_000_000
"""Initial stock of each product, so large that no load test exhausts it."""

_FIRST_ORDER = datetime(2026, 1, 1, tzinfo=UTC)
_NOTE_WORDS = 24

_MAKERS = (
    "Alder", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Juniper", "Larch", "Maple", "Oak", "Pine", "Rowan",
    "Spruce", "Willow", "Yew", "Aspen",
)  # fmt: skip
_MATERIALS = (
    "steel", "oak", "linen", "copper", "wool", "glass", "clay", "leather", "bamboo", "cotton", "cork", "slate",
    "brass", "canvas", "marble", "jute",
)  # fmt: skip
_DEFINITIONS = (
    "light", "heavy", "folding", "round", "narrow", "tall", "compact", "plain", "woven", "polished", "matte",
    "striped", "deep", "quiet", "warm", "soft",
)  # fmt: skip
_THINGS = (
    "lamp", "chair", "kettle", "basket", "blanket", "mirror", "shelf", "bottle", "knife", "table", "clock",
    "vase", "rug", "bench", "teapot", "tray", "stool", "hook", "bowl", "candle", "frame", "ladder", "trunk",
    "pillow", "curtain", "spoon", "grater", "mortar", "jug", "drawer", "easel", "lantern",
)  # fmt: skip
_USES = (
    "kitchen", "garden", "bedroom", "hallway", "office", "workshop", "balcony", "bathroom", "cellar", "nursery",
    "porch", "attic", "studio", "van",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the shop's catalogue, with its price in cents."""

    id: int
    name: str
    description: str
    price_cents: int


def catalogue(products: int = PRODUCTS) -> Iterator[Product]:
    """Yield `products` made-up products with ids from 1; all calls yield the same products."""
    chance = random.Random(_SEED)  # noqa: S311 made-up goods are no secret
    for key in range(1, products + 1):
        look, material, thing = chance.choice(_DEFINITIONS), chance.choice(_MATERIALS), chance.choice(_THINGS)
        uses = chance.sample(_USES, 3)
        name = f"{chance.choice(_MAKERS)} {look} {material} {thing} {key}"
        text = f"A {look} {thing} of {material} for the {uses[0]}, the {uses[1]} and the {uses[2]}."
        yield Product(key, name, text, chance.randrange(300, 40_000))


def order_number(index: int) -> str:
    """Return the number of the order with this index (from 0) in the initial data."""
    return str(index + 1)


def customer_name(index: int) -> str:
    """Return the name of the customer with this index (from 0) in the initial data."""
    return f"customer-{index:05d}"


def seed(connection: psycopg.Connection[Any], *, products: int = PRODUCTS, orders: int = ORDERS) -> None:
    """Fill the shop's empty tables with products, stock and orders, and commit; equal arguments give equal data.

    Args:
        connection: the connection to the database, with the shop's schema.
        products: number of products.
        orders: number of orders.

    Raises:
        psycopg.Error: the tables are absent or not empty.
    """
    chance = random.Random(_SEED + 1)  # noqa: S311 made-up orders are no secret
    goods = list(catalogue(products))
    with connection.cursor() as cursor:
        with cursor.copy("COPY products (id, name, description, price_cents) FROM STDIN") as rows:
            for product in goods:
                rows.write_row((product.id, product.name, product.description, product.price_cents))
        with cursor.copy("COPY stock (product_id, quantity) FROM STDIN") as rows:
            for product in goods:
                rows.write_row((product.id, STOCK))
        columns = "number, product_id, quantity, customer, note, total_cents, created_at"
        with cursor.copy(f"COPY orders ({columns}) FROM STDIN") as rows:
            for index in range(orders):
                product, quantity = chance.choice(goods), chance.randrange(1, 5)
                customer = customer_name(chance.randrange(max(orders // 10, 1)))
                note = " ".join(chance.choices(_USES, k=_NOTE_WORDS))
                made = _FIRST_ORDER + timedelta(seconds=60 * index)
                total = product.price_cents * quantity
                rows.write_row((order_number(index), product.id, quantity, customer, note, total, made))
    connection.commit()
    # Update statistics and visibility now, so that autovacuum does not do it during a measurement.
    was_autocommit = connection.autocommit
    connection.autocommit = True
    # Otherwise the copied rows would later be added to the row counts that VACUUM ANALYZE sets.
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = was_autocommit


def write_products(path: Path, *, products: int = PRODUCTS) -> None:
    """Write the products file for search: one JSON line per product, with `id`, `name` and `description`.

    Args:
        path: the path of the file; an existing file is replaced.
        products: number of products.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [
        json.dumps({"id": product.id, "name": product.name, "description": product.description})
        for product in catalogue(products)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
