"""The LangChain gateway for both providers: requests, malformed answers, retries, deadlines and setup errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from relab.llm import (
    PROVIDERS,
    Budget,
    BudgetLimits,
    LangChainGateway,
    LlmConfig,
    LlmError,
    LlmInvalidOutputError,
    LlmRefusedError,
    LlmUnavailableError,
    OutputMethod,
    Spent,
)
from support.llm.words import GOOD, PROMPT, MakeGateway, Word


def wait_for(condition: Callable[[], bool], *, within_s: float = 60.0) -> bool:
    """Return whether `condition` becomes true within `within_s` seconds."""
    ends_at = time.monotonic() + within_s
    pause = threading.Event()
    while not condition() and time.monotonic() < ends_at:
        pause.wait(0.005)
    return condition()


def calls_in_flight() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "relab-llm"]


# Servers that respond correctly


def test_request_has_the_key_and_the_limits_and_asks_for_no_stream(
    server: Any, make_gateway: MakeGateway, provider: str
) -> None:
    server.will(server.say(GOOD))

    make_gateway(max_completion_tokens=77).complete(PROMPT, Word)

    (request,) = server.requests
    sent_key = request.headers.get("x-api-key") or request.headers["authorization"].removeprefix("Bearer ")
    assert sent_key == "sk-loopback"
    assert request.path == ("/v1/messages" if provider == "anthropic" else "/v1/chat/completions")
    assert request.body["max_tokens"] == 77
    assert request.body["temperature"] == 0
    assert not request.body.get("stream")
    assert request.headers["accept-encoding"] == "identity"


def test_leaves_the_temperature_out_if_configured(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.say(GOOD))

    make_gateway(temperature=None).complete(PROMPT, Word)

    assert "temperature" not in server.requests[0].body


@pytest.mark.parametrize("method", list(OutputMethod))
def test_each_output_method_sends_the_schema(server: Any, method: OutputMethod) -> None:
    server.will(server.say(GOOD))
    config = LlmConfig(model="m", base_url=f"{server.url}/v1", output_method=method)

    LangChainGateway(config).complete(PROMPT, Word)

    body = server.requests[0].body
    schema = {"properties": {"word": {"type": "string"}}, "required": ["word"], "type": "object"}
    strict = {**schema, "additionalProperties": False}
    if method is OutputMethod.FUNCTION_CALLING:
        assert body["tools"][0]["function"]["parameters"] == strict
        assert body["tool_choice"]["function"]["name"] == "Word"
    elif method is OutputMethod.JSON_SCHEMA:
        wanted = {"name": "Word", "schema": strict, "strict": True}
        assert body["response_format"] == {"type": "json_schema", "json_schema": wanted}
    else:
        assert body["response_format"] == {"type": "json_object"}
        assert '"required":["word"]' in body["messages"][0]["content"]


def test_servers_compatible_with_openai_get_the_common_name_of_the_token_limit() -> None:
    from langchain_openai import ChatOpenAI

    from relab.llm.chat import model_options

    sdk = PROVIDERS["openai"].load()

    own = sdk.make_model(model_options(LlmConfig(model="m")), None)
    compatible = sdk.make_model(model_options(LlmConfig(model="m", base_url="http://127.0.0.1:1/v1")), None)

    assert isinstance(own, ChatOpenAI)
    assert not isinstance(compatible, ChatOpenAI)


def test_accepts_json_in_a_markdown_fence(server: Any, make_gateway: MakeGateway, provider: str) -> None:
    method = OutputMethod.FUNCTION_CALLING if provider == "anthropic" else OutputMethod.JSON_MODE
    server.will(server.say(f"```json\n{GOOD}\n```"))

    assert make_gateway(output_method=method).complete(PROMPT, Word) == Word(word="yes")


def test_charges_the_tokens_that_the_server_counted(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.say(GOOD), server.say("no JSON"))
    budget = Budget()
    gateway = make_gateway(budget=budget)

    gateway.complete(PROMPT, Word)
    with pytest.raises(LlmInvalidOutputError):
        gateway.complete(PROMPT, Word)

    spent = budget.spent()
    assert spent.calls == 2
    assert spent.prompt_tokens == 22
    assert spent.completion_tokens == 14


def test_threads_share_a_gateway(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.say(GOOD))
    gateway = make_gateway(max_concurrency=3)
    answers: list[Word] = []
    threads = [threading.Thread(target=lambda: answers.append(gateway.complete(PROMPT, Word))) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [Word(word="yes")] * 6


# Responses that are no valid answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null, "content": null}',
        b'{"choices": [{}], "content": [{}]}',
        b'{"choices": [{"message": null}], "content": [null]}',
        b'{"choices": [{"message": {"role": "assistant", "content": null}, "finish_reason": "stop"}], "content": []}',
        b'{"choices": "many", "content": 7}',
        b'{"choices": [',
        b"<html>It works!</html>",
        b"\xff\xfe\x00",
        b"[" * 20_000,
        b'{"error": {"message": "out of credit"}}',
    ],
)
def test_a_body_outside_the_protocol_is_invalid_output(server: Any, make_gateway: MakeGateway, body: bytes) -> None:
    server.will(server.raw(body))

    with pytest.raises(LlmInvalidOutputError):
        make_gateway().complete(PROMPT, Word)


def test_an_answer_that_was_cut_off_is_invalid_even_if_it_parses(
    server: Any, make_gateway: MakeGateway, provider: str
) -> None:
    server.will(server.say(GOOD, finish="max_tokens" if provider == "anthropic" else "length"))

    with pytest.raises(LlmInvalidOutputError, match="cut off"):
        make_gateway().complete(PROMPT, Word)


def test_function_call_that_was_cut_off_is_named(server: Any) -> None:
    # llama-cpp-python gives a cut-off call the finish reason of a complete one.
    server.will(server.say('{"word": "ye', finish="tool_calls"))
    config = LlmConfig(model="m", base_url=f"{server.url}/v1", output_method=OutputMethod.FUNCTION_CALLING)

    with pytest.raises(LlmInvalidOutputError, match=r"may be cut off\. Raise RELAB_LLM__MAX_COMPLETION_TOKENS"):
        LangChainGateway(config).complete(PROMPT, Word)


def test_a_refusal_field_is_a_refusal(server: Any) -> None:
    server.will(server.say(GOOD, refusal="I can't help with that."))
    config = LlmConfig(model="m", base_url=f"{server.url}/v1", max_retries=0)

    with pytest.raises(LlmRefusedError):
        LangChainGateway(config).complete(PROMPT, Word)


@pytest.mark.parametrize("announced", [True, False], ids=["with length", "endless"])
def test_a_huge_body_is_not_read_to_its_end(server: Any, make_gateway: MakeGateway, announced: bool) -> None:
    server.will(server.raw(b" " * 3_000_000) if announced else server.flood)

    with pytest.raises(LlmInvalidOutputError, match="65536"):
        make_gateway(max_response_bytes=65_536).complete(PROMPT, Word)


def test_a_compressed_body_is_refused_unread(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.raw(b"\x1f\x8b" + b"\x00" * 10, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(LlmInvalidOutputError, match="compressed"):
        make_gateway().complete(PROMPT, Word)


# Servers that are down, busy or slow


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_failed_call_is_retried_up_to_the_limit(server: Any, make_gateway: MakeGateway, status: int) -> None:
    server.will(server.raw(b"{}", status=status))

    with pytest.raises(LlmUnavailableError) as caught:
        make_gateway(max_retries=2).complete(PROMPT, Word)

    assert caught.value.status == status
    assert len(server.requests) == 3


def test_caller_does_not_see_a_failure_whose_retry_succeeds(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.raw(b"{}", status=503), server.drop, server.say(GOOD))
    budget = Budget()

    answer = make_gateway(max_retries=2, budget=budget).complete(PROMPT, Word)

    assert answer == Word(word="yes")
    assert budget.spent().calls == 1


def test_short_retry_after_is_respected(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.raw(b"{}", status=429, headers={"Retry-After": "0"}), server.say(GOOD))

    assert make_gateway(max_retries=1).complete(PROMPT, Word) == Word(word="yes")


def test_a_retry_after_beyond_the_deadline_ends_the_call_at_once(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.raw(b"{}", status=429, headers={"Retry-After": "500"}))

    with pytest.raises(LlmUnavailableError) as caught:
        make_gateway(max_retries=5, timeout_s=100).complete(PROMPT, Word)

    assert caught.value.status == 429
    assert caught.value.retry_after_s == 500.0
    assert len(server.requests) == 1


def test_failed_call_costs_no_tokens(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.raw(b"{}", status=500))
    budget = Budget(BudgetLimits(max_completion_tokens=2_000))

    with pytest.raises(LlmUnavailableError):
        make_gateway(budget=budget).complete(PROMPT, Word)

    spent = budget.spent()
    assert spent.calls == 1
    assert spent.completion_tokens == 0


@pytest.mark.parametrize("way", ["hang", "dribble", "dribble_headers"])
def test_the_deadline_bounds_a_server_that_never_ends(server: Any, make_gateway: MakeGateway, way: str) -> None:
    server.will(getattr(server, way))
    budget = Budget()
    calls = 0

    # On a busy machine a short deadline can pass before the request is sent; then the test tries a longer one.
    for timeout_s in (0.2, 1, 5, 25):
        calls += 1
        with pytest.raises(LlmUnavailableError, match=f"{timeout_s:g} s"):
            make_gateway(timeout_s=timeout_s, max_retries=5, budget=budget).complete(PROMPT, Word)
        if server.requests:
            break

    assert 1 <= len(server.requests) <= calls, "a call that was too slow was repeated"
    assert wait_for(lambda: not calls_in_flight()), "the call's thread outlived it"
    assert budget.spent().completion_tokens == calls * 1_024, "nobody knows the cost, so the reservation stands"
    if way != "hang":
        assert server.hung_up.wait(10), "the connection outlived the call"


def test_a_caller_can_shorten_the_deadline_but_not_lengthen_it(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.hang)

    with pytest.raises(LlmUnavailableError, match=r"0\.2 s"):
        make_gateway(timeout_s=60).complete(PROMPT, Word, timeout_s=0.2)
    with pytest.raises(LlmUnavailableError, match=r"0\.3 s"):
        make_gateway(timeout_s=0.3).complete(PROMPT, Word, timeout_s=60)


def test_waiting_for_a_slot_counts_against_the_deadline(server: Any, make_gateway: MakeGateway) -> None:
    server.will(server.hang)
    budget = Budget(BudgetLimits(window_s=3_600))
    gateway = make_gateway(max_concurrency=1, timeout_s=60, budget=budget)
    errors: list[Exception] = []

    def occupy() -> None:
        try:
            gateway.complete(PROMPT, Word)
        except LlmError as error:
            errors.append(error)

    thread = threading.Thread(target=occupy)
    thread.start()
    assert wait_for(lambda: len(server.requests) == 1)

    before, bills = budget.spent(), list[Spent]()
    with pytest.raises(LlmUnavailableError, match="slot"):
        gateway.complete(PROMPT, Word, timeout_s=0.1, billed=bills.append)

    assert bills == []
    assert budget.spent() == before, "a call that was not made is not charged"
    server.released.set()
    thread.join()
    assert len(server.requests) == 1
    assert len(errors) == 1


def test_unreachable_server_is_unavailable(server: Any, make_gateway: MakeGateway) -> None:
    budget = Budget()

    with pytest.raises(LlmUnavailableError, match=r"cannot be reached.* Check RELAB_LLM__BASE_URL"):
        make_gateway(base_url="http://127.0.0.1:1/v1", budget=budget).complete(PROMPT, Word)

    spent = budget.spent()
    assert (spent.prompt_tokens, spent.completion_tokens) == (0, 0), "the server received no request"


@pytest.mark.parametrize("then", [None, 500, 401])
def test_call_keeps_its_reservation_if_the_connection_broke_during_an_answer(
    server: Any, make_gateway: MakeGateway, then: int | None
) -> None:
    server.will(server.drop, server.drop if then is None else server.raw(b"{}", status=then))
    budget = Budget()

    with pytest.raises(LlmError):
        make_gateway(budget=budget, max_retries=1).complete(PROMPT, Word)

    assert len(server.requests) == 2
    assert budget.spent().completion_tokens == 1_024
