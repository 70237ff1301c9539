"""Request mixes: shares of requests, random values, templates, and errors in a mix file."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relab.load.errors import MixError, PlanError
from relab.load.mix_files import built_in_mix, built_in_names, parse_mix, read_mix, single_request
from relab.load.mixes import LoadRequest, request_stream
from relab.load.models import Mix

SAFE_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def first(mix: Mix, count: int, seed: int = 1) -> list[LoadRequest]:
    return list(itertools.islice(request_stream(mix, seed), count))


def mix_of(**fields: object) -> Mix:
    return Mix.model_validate(fields)


@pytest.mark.parametrize("name", built_in_names())
def test_built_in_mixes_are_deterministic_and_keep_their_shares(name: str) -> None:
    mix = built_in_mix(name)
    requests = first(mix, 5_000, seed=9)

    assert requests == first(mix, 5_000, seed=9)
    assert requests != first(mix, 5_000, seed=10)
    whole = sum(template.weight for template in mix.requests)
    counts = Counter(request.route for request in requests)
    for number, template in enumerate(mix.requests):
        share = template.weight / whole
        assert stats.binom.ppf(1e-6, 5_000, share) <= counts[number] <= stats.binom.isf(1e-6, 5_000, share)
    assert all(request.target.startswith("/api/v1/") and "{" not in request.target for request in requests)


def test_built_in_mixes_are_browse_order_and_search() -> None:
    assert built_in_names() == ["browse", "order", "search"]


@given(text=SAFE_TEXT)
def test_values_are_encoded_in_paths_and_queries_and_kept_in_bodies(text: str) -> None:
    mix = mix_of(
        values={"it": {"kind": "choice", "of": [text]}},
        requests=[
            {
                "name": "r",
                "method": "POST",
                "path": "/a/{it}/b",
                "query": {"q&=": "<{it}>", "n": 3, "yes": True},
                "body": {"whole": "{it}", "part": "-{it}-", "list": ["{it}", 1.5, None]},
            }
        ],
    )

    request = first(mix, 1)[0]
    parts = urlsplit(request.target)
    assert request.target.isascii()
    assert [unquote(part) for part in parts.path.split("/")] == ["", "a", text, "b"]
    assert parse_qs(parts.query, keep_blank_values=True) == {"q&=": [f"<{text}>"], "n": ["3"], "yes": ["true"]}
    assert request.body is not None
    assert json.loads(request.body) == {"whole": text, "part": f"-{text}-", "list": [text, 1.5, None]}
    assert request.headers == {"Content-Type": "application/json"}


def test_value_is_the_same_throughout_a_request_and_keeps_its_type() -> None:
    mix = mix_of(
        values={"id": {"kind": "integer", "low": 1, "high": 10**9}, "key": {"kind": "uuid"}, "n": {"kind": "sequence"}},
        requests=[
            {
                "name": "r",
                "method": "PUT",
                "path": "/{id}",
                "headers": {"Key": "k-{key}"},
                "body": ["{id}", "{key}", "{n}"],
            }
        ],
    )
    requests = first(mix, 50)

    for number, request in enumerate(requests):
        assert request.body is not None
        found = json.loads(request.body)
        assert request.target == f"/{found[0]}"
        assert request.headers["Key"] == f"k-{found[1]}"
        assert found[2] == number
    assert len({request.headers["Key"] for request in requests}) == 50


@given(low=st.integers(-50, 50), width=st.integers(0, 30), skew=st.sampled_from([0.0, 0.8, 2.0]))
def test_integers_lie_within_their_bounds(low: int, width: int, skew: float) -> None:
    value = {"kind": "integer", "low": low, "high": low + width, "skew": skew}
    mix = mix_of(values={"i": value}, requests=[{"name": "r", "path": "/{i}"}])

    assert all(low <= int(request.target[1:]) <= low + width for request in first(mix, 100))


def test_skewed_integer_follows_zipf_and_words_have_the_given_number() -> None:
    mix = mix_of(
        values={
            "i": {"kind": "integer", "low": 1, "high": 10, "skew": 1.0},
            "w": {"kind": "words", "of": ["a", "b"], "low": 2, "high": 3},
        },
        requests=[{"name": "r", "path": "/{i}", "query": {"w": "{w}"}}],
    )
    requests = [urlsplit(request.target) for request in first(mix, 5_000)]
    found = Counter(int(request.path[1:]) for request in requests)

    harmonic = sum(1 / rank for rank in range(1, 11))
    expected = [5_000 / rank / harmonic for rank in range(1, 11)]
    assert stats.chisquare([found[rank] for rank in range(1, 11)], expected).pvalue > 1e-6
    assert {len(parse_qs(request.query)["w"][0].split()) for request in requests} == {2, 3}


def test_braces_and_queries_of_a_url_are_kept() -> None:
    base, mix = single_request("http://127.0.0.1:80/a%20b/{x}?q=1&r=a%2Fb&s={y}")

    assert base == "http://127.0.0.1:80"
    assert first(mix, 1)[0].target == "/a%20b/%7Bx%7D?q=1&r=a%2Fb&s=%7By%7D"
    assert single_request("http://[::1]:8/")[0] == "http://[::1]:8"
    added = mix_of(requests=[{"name": "r", "path": "/p?a=1", "query": {"b": "2"}}])
    assert first(added, 1)[0].target == "/p?a=1&b=2"


def test_text_body_is_sent_as_plain_text() -> None:
    mix = mix_of(requests=[{"name": "r", "method": "POST", "path": "/", "body": "hello {{you}}"}])

    request = first(mix, 1)[0]
    assert request.body == b"hello {you}"
    assert request.headers == {"Content-Type": "text/plain; charset=utf-8"}


def test_boolean_in_text_body_is_lower_case() -> None:
    values = {"f": {"kind": "choice", "of": [True]}}
    bodies = {"alone": "{f}", "amid": "f={f}"}
    requests = [{"name": name, "method": "POST", "path": f"/{name}", "body": body} for name, body in bodies.items()]

    found = {request.target: request.body for request in first(mix_of(values=values, requests=requests), 50)}
    assert found == {"/alone": b"true", "/amid": b"f=true"}


@pytest.mark.parametrize("url", ["", "x", "ftp://h/", "http://", "http://h:99999999/", "http://[::1", "http://u@h/"])
def test_invalid_service_url_is_rejected(url: str) -> None:
    with pytest.raises(PlanError):
        single_request(url)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("requests: [{name: a, path: '/{b}'}]", "no value 'b'"),
        ("requests: [{name: a, path: '/{'}]", "request 'a', path"),
        ("requests: [{name: a, path: '/{b.c}'}]", "not the name of a value"),
        ("requests: [{name: a, path: '/', body: {x: ['{q}']}}]", "no value 'q'"),
        ("requests: []", "requests"),
        ("requests: [{name: a, path: /}, {name: a, path: /b}]", "two requests have one name"),
        ("requests: [{name: a, path: /, weight: 0}]", "requests.0.weight"),
        ("requests: [{name: a, path: nowhere}]", "requests.0.path"),
        ("requests: [{name: a, path: /, colour: red}]", "requests.0.colour"),
        ("values: {i: {kind: integer, low: 2, high: 1}}\nrequests: [{name: a, path: /}]", "low must not be above high"),
        ("values: {i: {kind: choice, of: [1], weights: [1, 2]}}\nrequests: [{name: a, path: /}]", "one weight"),
        ("values: {i: {kind: words, of: [a], low: 5}}\nrequests: [{name: a, path: /}]", "low must not be above high"),
        ("requests:\n- {name: a, path: /}\n- {name: b, path: x}", "mix.yaml:3: requests.1.path"),
        ("a: [", "is not YAML"),
        ("a: &a [*a]", "deeper ones"),
        ("a: !!python/name:os.system ''", "is not a plain value"),
        ("[" * 5_000, "mix.yaml"),
        ("just text", "is not a request mix"),
    ],
)
def test_invalid_mix_is_rejected_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(text)

    with pytest.raises(MixError) as caught:
        read_mix(path)
    assert said in f"{caught.value} {caught.value.problems}"
    assert "mix.yaml" in str(caught.value)


def test_unreadable_mix_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    for name in ("absent", "binary", "."):
        with pytest.raises(MixError):
            read_mix(tmp_path / name)


def test_json_mix_is_read() -> None:
    mix = parse_mix('{"requests": [{"name": "a", "path": "/x"}]}', "test")

    assert first(mix, 1)[0].target == "/x"
