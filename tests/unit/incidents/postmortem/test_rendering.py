"""A postmortem as Markdown and as an HTML page: all text is shown, and external text never becomes markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import altair as alt
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from relab.core.clock import format_time
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.composition import compose
from relab.incidents.postmortem.markdown import escaped, to_markdown
from relab.incidents.postmortem.models import IncidentRecord
from relab.incidents.postmortem.page import render
from relab.incidents.postmortem.signal_events import KIND, signals_event
from support.incidents.acts import SECOND_US, act
from support.incidents.postmortems import CLOSED_US, EVIDENCE, OPENED_US, case, event, finding, incident, signals

HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=alert(1)>\x00\x1b[31m\u202e\u2028]]>&amp;{{ 7*7 }} "
    "| a | b |\n# head\n- item\n1. one\n```\ncode\n``` [link](javascript:alert(1)) ![i](http://x.example/p.png) "
    "<http://x.example> https://x.example www.x.example a@x.example **bold** _it_ ~~gone~~ $x$ @all\n---\n===\n[^1]: x"
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Page(HTMLParser):
    """The tags, scripts and text that an HTML parser finds in a page."""

    def __init__(self, raw: str) -> None:
        super().__init__(convert_charrefs=True)
        self.raw = raw
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in_script = False
        self.feed(raw)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 the parser's signature
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def specs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attrs)) for tag, attrs in self.tags]


def page(given: IncidentRecord) -> Page:
    return Page(render(compose(given), "/* libraries */").html)


def told(text: str) -> IncidentRecord:
    """Return an incident record in which every external field is this text."""
    evidence = dict.fromkeys(EVIDENCE, text)
    return case(
        incident=incident(
            title=text, target=text, diagnosis=text, recommendation=text, findings=(finding(detail=text, signal=text),),
            symptoms={"settings.recent_change": text},
        ),
        events=[
            event(1, "diagnosed", text, content={"evidence": [evidence], "candidates": [{"cause": text}]}, evidence=(text,)),
            event(2, "verified", text),
            signals(),
            event(3, "closed", text, at=CLOSED_US),
        ],
        actions=[act(action=text, cause=text, why=text, error=text, approved_by=text, parameters={text: text})],
    )  # fmt: skip


def kinds(text: str) -> list[str]:
    """Return the types of the Markdown tokens in a text."""
    found = []
    for token in MARKDOWN.parse(text):
        found.append(token.type)
        found += [child.type for child in token.children or () if child.type != "text_special"]
    return [kind for kind in found if kind not in {"text", "inline"}]


@functools.cache
def harmless_kinds() -> list[str]:
    return kinds(to_markdown(compose(told("x"))))


@functools.cache
def harmless_shape() -> list[tuple[str, tuple[str, ...]]]:
    return page(told("x")).shape


def read(text: str) -> str:
    return "".join(child.content for token in MARKDOWN.parse(text) for child in token.children or ())


def test_page_loads_nothing_and_allows_only_its_own_scripts() -> None:
    found = page(case())
    (policy,) = [attrs["content"] for tag, attrs in found.tags if "http-equiv" in attrs]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for script in found.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert not [attrs for _, attrs in found.tags if attrs.keys() & {"src", "href", "onerror", "onload"}]
    assert len(found.scripts) == 3


def test_each_signal_has_a_chart_with_all_marks() -> None:
    found = page(case())
    assert len(found.specs) == 2
    for spec in found.specs:
        rules = spec["layer"][1]["data"]
        marks = [row["moment"] for row in spec["datasets"][rules["name"]]]
        assert marks == ["onset", "detection", "action", "action", "end"]
        # `from_dict` raises for an invalid Vega-Lite specification, which relab itself does not check.
        assert alt.Chart.from_dict(spec)
        assert "<svg" in vl_convert.vegalite_to_svg(json.dumps(spec))
        assert "http" not in json.dumps(spec)
        # The 24-hour format distinguishes noon from midnight.
        assert spec["layer"][0]["encoding"]["x"]["axis"]["format"] == "%H:%M:%S"


def test_no_line_is_drawn_through_a_gap_and_the_axis_says_that_there_are_no_samples() -> None:
    before, after = ([Snapshot(OPENED_US + at_s * SECOND_US, numbers={"errors.pct": 40.0}) for at_s in span]
                     for span in (range(-60, 0, 5), range(60, 120, 5)))  # fmt: skip
    kept = signals_event([*before, *after], OPENED_US, [], once="signals.learn")
    given = case(events=[event(3, KIND, content=dict(kept.content))])
    found = page(given)
    (spec,) = found.specs
    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    assert svg.count('aria-roledescription="line mark"') == 2
    assert ">no samples<" in svg
    assert "no samples" in found.text
    assert f"{format_time(before[-1].at_us)} to {format_time(after[0].at_us)}" in read(to_markdown(compose(given)))
    (whole,) = page(
        case(events=[event(3, KIND, content=dict(signals_event(before, OPENED_US, [], once="x").content))])
    ).specs
    assert vl_convert.vegalite_to_svg(json.dumps(whole)).count('aria-roledescription="line mark"') == 1


def test_markdown_and_page_have_the_same_content() -> None:
    post = compose(case())
    shown = page(case()).text, read(to_markdown(post))
    for text in shown:
        for part in (
            *post.summary,
            post.worked,
            *(each.measured for each in post.actions),
            "ev-7f3a",
            "restart-cache",
            *(each.what for each in post.follow_ups),
        ):
            assert part in text


def test_hostile_text_is_shown_and_not_interpreted() -> None:
    harmless, found = page(told("word")), page(told(HOSTILE))
    assert found.shape == harmless.shape
    assert "<script>window" not in found.raw
    assert "\\u202e" in found.text
    assert "{{ 7*7 }}" in found.text
    for spec in found.specs:
        assert "<script" not in vl_convert.vegalite_to_svg(json.dumps(spec))
    assert kinds(to_markdown(compose(told(HOSTILE)))) == kinds(to_markdown(compose(told("word"))))
    for link in ("http://", "https://", "www.x", "a@x"):
        assert link not in to_markdown(compose(told(HOSTILE)))


@given(st.text(alphabet=st.characters(codec=None), max_size=60) | st.text("`*_[]()<>#|!&~-+=.:/\\1w\n ", max_size=60))
def test_any_text_is_escaped(text: str) -> None:
    cleaned = re.sub(r"[\ud800-\udfff]", "x", text) + "x"
    assert kinds(to_markdown(compose(told(cleaned)))) == harmless_kinds()
    assert page(told(cleaned)).shape == harmless_shape()


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_escaped_line_of_markdown_is_plain_text(text: str) -> None:
    line = escaped(text)
    assert "\n" not in line
    assert kinds(f"a {line}") == ["paragraph_open", "paragraph_close"]
    assert kinds(f"- {line}x")[:3] == ["bullet_list_open", "list_item_open", "paragraph_open"]


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)
_CONTENTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("evidence", "tried", "numbers", "began_us", "candidates", "together", "act"), _ANY)
)
_EVENTS = st.lists(
    st.tuples(st.sampled_from(["diagnosed", "signals", "closed", "failed", "odd", "verified", "act_asked"]), st.text(max_size=30), _CONTENTS), max_size=6
)  # fmt: skip


@given(_EVENTS)
def test_any_timeline_is_rendered(rows: list[tuple[str, str, dict[str, Any]]]) -> None:
    events = [event(seq, kind, message, content=content) for seq, (kind, message, content) in enumerate(rows, 1)]
    post = compose(replace(case(), events=events))
    assert len(post.timeline) == sum(kind != "signals" for kind, _, _ in rows)
    assert to_markdown(post).encode("utf-8", "replace")
    assert Page(render(post, "").html).scripts


@pytest.mark.parametrize("text", ["a.b_c", "12.5 % of 3", "it's - fine"])
def test_ordinary_text_is_not_escaped(text: str) -> None:
    assert escaped(text).replace("\\_", "_") == text
