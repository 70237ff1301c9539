"""Errors of model providers: the status code and the waiting time, in the languages of the gateways."""

# ruff: noqa: RUF001 the words of other languages have other letters

from __future__ import annotations

from typing import Any

import pytest

from relab.telemetry.otlp.provider_errors import read_provider_error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Error code: 429 - Rate limit reached. Please try again in 20s.", 20.0),
        ("Fehlercode: 429 - Ratenlimit überschritten. Bitte versuchen Sie es in 20 Sekunden erneut.", 20.0),
        ("Zu viele Anfragen. Bitte warten Sie 2 Minuten.", 120.0),
        ("Das Kontingent ist erschöpft.", None),
        ("错误代码：429，请求过于频繁，请在20秒后重试。", 20.0),
        ("请求频率超出限制，请3分钟后重试", 180.0),
        ("您的账户额度已用完", None),
        ("エラーコード: 429 リクエストが多すぎます。20秒後に再試行してください。", 20.0),
        ("レート制限に達しました。5分後に再試行してください", 300.0),
        ("Código de error: 429. Inténtelo de nuevo en 20 segundos.", 20.0),
        ("Demasiadas solicitudes", None),
        ("Ha superado su cuota.", None),
        ("Код ошибки: 429 — превышен лимит запросов. Повторите через 20 секунд.", 20.0),
        ("Слишком много запросов", None),
        ("Превышена квота", None),
        ("You exceeded your current quota, please check your plan.", None),
    ],
)
def test_rate_and_quota_errors_are_429_in_any_language(text: str, seconds: float | None) -> None:
    found = read_provider_error("openai.APIError", text)

    assert found["status_code"] == 429
    assert found.get("retry_after_s") == seconds


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Fehler 503: Dienst nicht verfügbar", 503),
        ("状态码：401，令牌无效", 401),
        ("ステータスコード: 500", 500),
        ("Código de estado: 400 - solicitud no válida", 400),
        ("ошибка 502: плохой шлюз", 502),
    ],
)
def test_status_code_is_read_beside_the_words_of_a_language(text: str, code: int) -> None:
    assert read_provider_error("APIError", text)["status_code"] == code


@pytest.mark.parametrize(
    "text",
    [
        "Der Bestellung 429 fehlt die Adresse.",
        "订单4290不存在",
        "注文429件",
        "El pedido 500 no existe.",
        "The limit of the credit card is fine.",
    ],
)
def test_unrelated_numbers_and_limits_are_not_a_status_code(text: str) -> None:
    assert "status_code" not in read_provider_error("ValueError", text)


def test_reported_status_code_takes_precedence_over_words() -> None:
    found: dict[str, Any] = read_provider_error("APIError", "Demasiadas solicitudes", 503)
    assert found["status_code"] == 503
    assert read_provider_error("openai.AuthenticationError", "Слишком много запросов")["status_code"] == 401


@pytest.mark.parametrize("text", ["429 {'retry-after-ms': '500'}", "429 retry_after_ms=500"])
def test_waiting_time_of_a_field_in_milliseconds_is_converted(text: str) -> None:
    assert read_provider_error("RateLimitError", text)["retry_after_s"] == 0.5
