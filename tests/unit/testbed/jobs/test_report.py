"""The report job of the shop: similar products, and the sales of each product."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from relab.testbed.jobs.report import Line, read_products, read_sales, report, write

TEXTS = ["green desk lamp", "green floor lamp", "oak table", "oak desk", "steel spoon"]


def products_file(folder: Path) -> Path:
    path = folder / "products.jsonl"
    rows = [{"id": number, "name": text, "description": text} for number, text in enumerate(TEXTS, start=1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_products_with_common_words_are_reported_as_alike(tmp_path: Path) -> None:
    products = read_products(products_file(tmp_path))
    lines = {line.name: line for line in report(products, Counter({1: 3}), part=0, parts=1)}

    assert lines["green desk lamp"].alike[0] == 2
    assert lines["oak table"].alike[0] == 4
    assert lines["green desk lamp"].sold == 3
    assert lines["oak desk"].sold == 0
    assert all(line.product_id not in line.alike for line in lines.values())


def test_products_are_divided_between_the_parts(tmp_path: Path) -> None:
    products = read_products(products_file(tmp_path))
    parts = [[line.product_id for line in report(products, Counter(), part=part, parts=2)] for part in range(2)]
    assert parts == [[1, 3, 5], [2, 4]]


def test_sales_are_summed_over_all_receipts_without_partially_written_lines(tmp_path: Path) -> None:
    receipt = json.dumps({"product_id": 4, "quantity": 2})
    (tmp_path / "receipts-1.jsonl").write_text(f"{receipt}\n{receipt}\n" + '{"product_id": 4, "qua')
    (tmp_path / "receipts-2.jsonl").write_text(f"{receipt}\n")
    assert read_sales(tmp_path) == Counter({4: 6})


def test_report_begins_with_the_best_seller(tmp_path: Path) -> None:
    path = tmp_path / "alike-0.jsonl"
    write([Line(1, "a", 1, (2,)), Line(2, "b", 5, (1,))], path)
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [2, 1]
    assert [item.name for item in tmp_path.iterdir()] == ["alike-0.jsonl"]
