"""Names of tools that change something."""

from __future__ import annotations

import pytest

from relab.rca.ranking.effects import MAX_CALLS, changes_something, written_change


@pytest.mark.parametrize(
    "name",
    ["update_order", "cancelReservation", "orders.delete", "mcp__shop__create_refund", "SendEmail", "try_to_pay"],
)
def test_verb_of_change_in_a_name(name: str) -> None:
    assert changes_something(name)


@pytest.mark.parametrize(
    "name",
    [
        "fetch_and_return",
        "list_and",
        "get_order",
        "list_updates",
        "searchReturns",
        "python",
        "",
        "findOrCreate",
        "calculate",
        "postal_code",
        "注文",
    ],
)
def test_name_without_a_verb_of_change_before_one_of_reading(name: str) -> None:
    assert not changes_something(name)


@pytest.mark.parametrize(
    "name",
    [
        *("book_search", "post_list", "returnPolicyLookup", "mcp__push__list_devices", "book.get"),
        *("exchange_rate", "getExchangeRates", "refund_status", "purchaseHistory"),
    ],
)
def test_noun_before_a_verb_of_reading_or_a_property_is_no_change(name: str) -> None:
    assert not changes_something(name)


@pytest.mark.parametrize(
    "name",
    [
        *("create_list", "orders_update", "list.add_item", "push.v2", "transfer_to_human_agents"),
        *("find_and_replace", "searchAndBook", "set_status", "update_exchange_rate"),
    ],
)
def test_verb_of_change_beside_other_words(name: str) -> None:
    assert changes_something(name)


@pytest.mark.parametrize(
    "name", ["transfer_to_sales_agent", "transfer_back_to_supervisor", "handoffs.transfer_to_agent"]
)
def test_hand_off_to_another_agent_is_no_change(name: str) -> None:
    assert not changes_something(name)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "cancel_order", "arguments": {"id": 1}}',
        'I will do it.\n[{"function": {"arguments": "{}", "name": "cancel_order"}, "type": "function"}]',
        '{"name": "get_order", "input": {}} {"name": "cancel_order", "input": {}}',
    ],
)
def test_calls_that_a_text_contains(text: str) -> None:
    assert written_change(text) == "cancel_order"


@pytest.mark.parametrize(
    "text",
    ["", "cancel_order", '{"name": "cancel_order"}', '{"name": "get_order", "arguments": {}}', '"arguments": {}'],
)
def test_texts_without_a_call_that_changes_something(text: str) -> None:
    assert written_change(text) is None


def test_calls_of_a_text_are_read_up_to_a_limit() -> None:
    calls = ['{"name": "get_order", "arguments": {}}'] * MAX_CALLS
    change = '{"name": "cancel_order", "arguments": {}}'
    assert written_change("\n".join([*calls[1:], change])) == "cancel_order"
    assert written_change("\n".join([*calls, change])) is None
