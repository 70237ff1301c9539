"""`lab doctor` with a model server over HTTP: whether it responds, accepts the key and offers the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.lab.in_process import InProcessLab

EXIT_OK, EXIT_UNAVAILABLE = 0, 69
MODELS = json.dumps({"object": "list", "data": [{"id": "small", "object": "model"}]}).encode()


def checked(home: Path, url: str, *, code: int = EXIT_OK) -> Any:
    settings = {"RELAB_LLM__BASE_URL": f"{url}/v1", "RELAB_LLM__API_KEY": "sk-hidden", "LLM_MODEL": "small"}
    lab = InProcessLab(home, settings)
    lab.run("metrics")
    done = lab.run("doctor", "--json", code=code)
    assert "sk-hidden" not in done.out + done.err
    return next(check for check in done.json["checks"] if check["name"] == "language model")


def test_server_that_offers_the_model_is_ok(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(MODELS))
    row = checked(tmp_path, server.url)

    assert row["state"] == "ok"
    assert row["found"] == f"small of {server.url}/v1"
    assert [request.path for request in server.requests] == ["/v1/models"]
    assert server.requests[0].headers["authorization"] == "Bearer sk-hidden"


def test_server_that_offers_another_model_is_noted(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(MODELS.replace(b"small", b"large")))
    row = checked(tmp_path, server.url)

    assert row["state"] == "note"
    assert "'small' is not among its 1 models" in row["found"]
    assert "RELAB_LLM__MODEL; it offers large" in row["remedy"]


@pytest.mark.parametrize(("status", "body"), [(404, b'{"detail": "Not Found"}'), (200, b"{}"), (200, b"<html>")])
def test_server_without_a_list_of_models_is_noted(server: Any, tmp_path: Path, status: int, body: bytes) -> None:
    server.will(server.raw(body, status=status))
    row = checked(tmp_path, server.url)

    assert row["state"] == "note"
    assert "does not say whether it has the model 'small'" in row["found"]
    assert "RELAB_LLM__BASE_URL" in row["remedy"]


def test_wrong_key_is_a_problem(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(b'{"detail": "Invalid API key sk-hidden"}', status=401))
    row = checked(tmp_path, server.url, code=EXIT_UNAVAILABLE)

    assert row["state"] == "problem"
    assert "the API key is not accepted" in row["found"]
    assert "RELAB_LLM__API_KEY" in row["remedy"]


def test_unreachable_server_is_a_problem(tmp_path: Path) -> None:
    row = checked(tmp_path, "http://127.0.0.1:1", code=EXIT_UNAVAILABLE)

    assert row["state"] == "problem"
    assert "http://127.0.0.1:1 cannot be reached" in row["found"]
    assert "RELAB_LLM__BASE_URL" in row["remedy"]


def test_server_that_fails_is_noted(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(b"{}", status=503))
    row = checked(tmp_path, server.url)

    assert row["state"] == "note"
    assert "HTTP 503" in row["found"]


def test_page_instead_of_a_model_server_is_a_problem(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(b"<!DOCTYPE html><html></html>", headers={"Content-Type": "text/html; charset=utf-8"}))
    row = checked(tmp_path, server.url, code=EXIT_UNAVAILABLE)

    assert row["state"] == "problem"
    assert "answered with an HTML page" in row["found"]
    assert "RELAB_LLM__BASE_URL; many servers need /v1" in row["remedy"]


def test_redirect_is_a_problem(server: Any, tmp_path: Path) -> None:
    server.will(server.raw(b"", status=307, headers={"Location": "https://models.example/v1/models?key=sk-hidden"}))
    row = checked(tmp_path, server.url, code=EXIT_UNAVAILABLE)

    assert row["state"] == "problem"
    assert "HTTP 307, a redirect" in row["found"]
    assert "RELAB_LLM__BASE_URL to the final address" in row["remedy"]
    assert "sk-hidden" not in str(row)
