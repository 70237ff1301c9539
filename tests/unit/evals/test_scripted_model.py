"""The scripted model that answers the programs of agent frameworks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rig.frameworks import wire
from rig.frameworks.cases import CASES, Refuse
from rig.frameworks.model_server import Script, ScriptError


def request(*tools: str, model: str = "gpt-4o-mini", required: tuple[str, ...] = ()) -> dict[str, Any]:
    parameters = {"type": "object", "required": list(required)}
    offered = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in tools]
    return {"model": model, "tools": offered}


def asked(script: Script, *tools: str, **options: Any) -> tuple[str, dict[str, Any]]:
    [call] = script.answer(request(*tools, **options)).asked
    return call.name, call.arguments


def test_agents_are_distinguished_by_their_models() -> None:
    script = Script(CASES["two_agents"])

    assert asked(script, "order_lookup", model="gpt-4o")[1]["order_id"] == "B-20"
    assert asked(script, "order_lookup", model="openai/gpt-4o-mini")[1]["order_id"] == "A-17"
    assert [call.agent for call in script.calls] == ["south_desk", "north_desk"]


def test_tool_of_a_plug_in_is_found_by_the_end_of_its_name() -> None:
    assert asked(Script(CASES["success"]), "Orders-stock_level", "Orders-order_lookup")[0] == "Orders-order_lookup"


@pytest.mark.parametrize(
    ("tool", "required", "arguments"),
    [
        ("transfer_to_billing_desk", (), {}),
        ("ask_billing_desk", ("task",), {"task": "Refund 12.50 EUR for order A-17."}),
        ("handoff", ("to_agent", "reason"), {"to_agent": "billing_desk", "reason": "Refund 12.50 EUR for order A-17."}),
    ],
)
def test_handover_uses_the_tool_that_the_framework_offers(
    tool: str, required: tuple[str, ...], arguments: dict[str, Any]
) -> None:
    assert asked(Script(CASES["hand_over"]), "order_lookup", tool, required=required) == (tool, arguments)


def test_final_answer_is_a_tool_call_where_the_framework_has_a_tool_for_it() -> None:
    script = Script(CASES["handled_error"])
    script.answer(request("order_lookup", "final_answer"))

    name, arguments = asked(script, "order_lookup", "final_answer")

    assert name == "final_answer"
    assert arguments["answer"].startswith("I am sorry")


def test_structured_answer_is_a_call_of_the_tool_that_is_not_one_of_the_shop() -> None:
    script = Script(CASES["structured"])
    script.answer(request("order_lookup", "Delivery"))

    assert asked(script, "order_lookup", "Delivery") == (
        "Delivery",
        {"order_id": "A-17", "carrier": "Northpost", "days": "soon"},
    )


def test_answer_that_was_cut_off_has_the_finish_reason_of_the_case() -> None:
    body = wire.completion(wire.Answer("gpt-4o", "Order A-17 was", [], wire.Tokens(120, 18), "length"), 1)

    assert body["choices"][0]["finish_reason"] == "length"


def test_refused_client_is_refused_again() -> None:
    script = Script(CASES["rate_limit"])

    turns = [script.answer(request("order_lookup")).turn for _ in range(4)]

    assert [isinstance(turn, Refuse) for turn in turns] == [False, True, True, True]


@pytest.mark.parametrize(
    ("case", "sent", "calls_before", "said"),
    [
        ("success", request("order_lookup", model="gpt-5"), 0, "no agent of this case has the model 'gpt-5'"),
        ("success", request("refund"), 0, "the tool order_lookup is not among those on offer"),
        ("hand_over", request("order_lookup"), 0, "hands over to billing_desk"),
        ("handled_error", request("order_lookup"), 2, "the case has 2 answers"),
    ],
)
def test_call_that_the_case_does_not_foresee_is_an_error(
    case: str, sent: dict[str, Any], calls_before: int, said: str
) -> None:
    script = Script(CASES[case])
    for _ in range(calls_before):
        script.answer(sent)

    with pytest.raises(ScriptError, match=said):
        script.answer(sent)


def test_stream_has_the_content_of_the_whole_completion() -> None:
    call = wire.ToolRequest("order_lookup", {"order_id": "A-17"}, "call_1")
    body = wire.completion(wire.Answer("gpt-4o", None, [call], wire.Tokens(120, 18)), 1)

    *events, last = wire.completion_events(body, {"stream_options": {"include_usage": True}})

    *pieces, end, usage = (json.loads(event.removeprefix("data: ")) for event in events)
    functions = [call["function"] for piece in pieces for call in piece["choices"][0]["delta"].get("tool_calls", ())]
    assert functions[0]["name"] == "order_lookup"
    assert json.loads("".join(function["arguments"] for function in functions)) == {"order_id": "A-17"}
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["prompt_tokens"] == 120
    assert last == "data: [DONE]\n\n"


def test_several_calls_of_one_answer_have_ids_of_their_own() -> None:
    calls = Script(CASES["streamed"]).answer(request("order_lookup")).asked

    assert [call.arguments["order_id"] for call in calls] == ["A-17", "B-20"]
    assert len({call.call_id for call in calls}) == 2
