"""Missing system components: the tests that need one are skipped, and the summary lists the component."""

from __future__ import annotations

import pytest

from support.components.required import leave_out, require_program, summary_of


def test_missing_program_skips_its_test_or_fails_it_where_skipping_is_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RELAB_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        require_program("no-such-program", "make it")
    monkeypatch.setenv("RELAB_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require_program("no-such-program", "make it")


def test_summary_has_one_line_for_each_missing_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAB_REQUIRE_ALL", raising=False)
    reasons = ["Skipped: only root can do that"]
    for component, why in (("bwrap", ""), ("engine", "refused: 1"), ("engine", "refused: 2")):
        with pytest.raises(pytest.skip.Exception) as skipped:
            leave_out(component, "make it", why)
        reasons.append(f"Skipped: {skipped.value}")

    one, two = summary_of(reasons)

    assert one == "bwrap is missing, so 1 test was left out; install it with: make it"
    assert two == "engine is missing, so 2 tests were left out; install it with: make it"
