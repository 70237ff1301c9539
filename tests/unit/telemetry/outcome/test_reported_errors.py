"""Error reports in results: which texts are recognised, and which only mention errors."""

from __future__ import annotations

import pytest

from relab.telemetry.outcome import is_cancellation, is_error_in_result


@pytest.mark.parametrize(
    "text",
    [
        "Error: connection refused",
        "An error occurred while running the tool. Please try again. Error: connection refused",
        "Encountered error: connection refused",
        "I encountered an error while trying to use the tool. This was the error: timed out.",
        "Error executing tool order_lookup: no route to host",
        "ConnectionError: no route to host",
        "httpx.HTTPStatusError: Server error '503'",
        "TimeoutError('after 5 s')",
        "Tool execution failed with code 3",
        "Request failed with status code 500",
        "HTTP 503 Service Unavailable",
        "429 Too Many Requests",
        'Qwen Code requires permission to use "run_shell_command", but that permission was declined.',
        "Unknown tool name: 'ship_order'. Available tools: 'order_lookup'",
        "Tool ship_order not found. Please select a tool that is available.",
        "{'error': 'timeout'}",
        '{"status": "error", "message": "timeout"}',
        "{'success': False}",
    ],
)
def test_error_reports_are_recognised(text: str) -> None:
    assert is_error_in_result(text)


@pytest.mark.parametrize(
    "text",
    [
        "The error rate is 3 %",
        "Errors in chapter 3 were corrected",
        "Terror: a history",
        "The article explains what a ConnectionError is",
        "500 metres from the station",
        "404 Not Found is the name of a song",
        '{"error": null, "result": 3}',
        "{'error': None, 'result': 3}",
        '{"result": "error: none"}',
        "Unknown tools of the Bronze Age were found",
        "The tool box was not found",
        "Failed states in history are many",
        "The camera requires permission to use the location.",
        "",
    ],
)
def test_texts_that_only_mention_errors_are_content(text: str) -> None:
    assert not is_error_in_result(text)


@pytest.mark.parametrize(
    "error_class", ["CancelledError", "asyncio.CancelledError", "concurrent.futures.CancelledError"]
)
def test_cancellation_is_recognised_by_the_name_of_its_class_in_any_module(error_class: str) -> None:
    assert is_cancellation(error_class)
    assert not is_cancellation(f"{error_class}Handler")
