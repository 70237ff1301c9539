"""Compute and write the sales report: for each product, the number sold and the products with the most similar texts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.core.atomic_files import replace_file

_ALIKE: Final = 5
_MAX_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class ProductVector:
    """A product, and the TF-IDF weights of the words in its text; the squares of the weights add up to 1."""

    product_id: int
    name: str
    weights: dict[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: a product, the number sold, and the ids of similar products (`alike`), nearest first."""

    product_id: int
    name: str
    sold: int
    alike: tuple[int, ...]


def read_products(path: Path) -> list[ProductVector]:
    """Read the products file (one JSON object per line) and return the products with their word weights (TF-IDF).

    Raises:
        OSError: the file cannot be read.
        ValueError: the content of the file is not valid.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [Counter(f"{row['name']} {row['description']}".lower().split()) for row in rows]
    holding = Counter(word for text in texts for word in text)
    found = []
    for row, text in zip(rows, texts, strict=True):
        raw = {word: count * math.log(len(rows) / holding[word]) for word, count in text.items()}
        length = math.sqrt(sum(weight * weight for weight in raw.values())) or 1.0
        found.append(ProductVector(row["id"], row["name"], {word: weight / length for word, weight in raw.items()}))
    return found


def read_sales(folder: Path) -> Counter[int]:
    """Return `{product's id: number of sold items}` from the receipts in the target's data folder.

    Incomplete lines are skipped.
    """
    sold: Counter[int] = Counter()
    for path in folder.glob("receipts-*.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            if line.endswith(b"}"):
                receipt = json.loads(line)
                sold[receipt["product_id"]] += receipt["quantity"]
    return sold


def report(products: Sequence[ProductVector], sold: Counter[int], *, part: int, parts: int) -> Iterator[Line]:
    """Yield the lines of the report for one part of the products: every `parts`-th product, from index `part` on.

    The similar products of a line can come from any part.

    Args:
        products: the products of all parts.
        sold: number of sold items of each product, by id.
        part: number of the part, from 0.
        parts: number of parts.
    """
    for product in products[part::parts]:
        scores = sorted(((_likeness(product, other), other.product_id) for other in products), reverse=True)
        alike = tuple(key for _, key in scores if key != product.product_id)[:_ALIKE]
        yield Line(product.product_id, product.name, sold[product.product_id], alike)


def write(lines: Sequence[Line], path: Path) -> None:
    """Write the 200 lines with the highest sales (or all, if fewer) as JSON Lines, best-selling product first.

    The old file stays until the new one is complete.

    Args:
        lines: the lines of one part of the report, in any order.
        path: the path of the file.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    best = sorted(lines, key=lambda line: -line.sold)[:_MAX_LINES]
    text = "".join(
        json.dumps({"id": line.product_id, "name": line.name, "sold": line.sold, "alike": line.alike}) + "\n"
        for line in best
    )
    replace_file(path, text.encode())


def _likeness(one: ProductVector, other: ProductVector) -> float:
    return sum(weight * other.weights.get(word, 0.0) for word, weight in one.weights.items())
