"""The client of a responder's API: status, incident events, errors and postmortems."""

from __future__ import annotations

import json

import httpx
import pytest

from demo.lab_client import LabError
from demo.responder_client import Look, ResponderClient, Told

PATIENT_S = 60.0


def client_answering(answer):
    """Return a client whose requests a function answers."""
    return ResponderClient("http://responder", transport=httpx.MockTransport(answer))


def event(kind, message="m", **content):
    """Return an event in the format of the stream."""
    data = {"message": message, "content": content, "seq": 1, "evidence": [], "incident_id": "i"}
    return f"data: {json.dumps({'specversion': '1.0', 'type': f'relab.incident.{kind}', 'data': data})}\n\n"


def stream_of(*parts):
    return client_answering(lambda _request: httpx.Response(200, text="".join(parts)))


def test_status_of_the_responder_is_read():
    status = {"polls": 7, "incident": {"id": "i-1"}, "cost_usd": 0.0}
    with client_answering(lambda _request: httpx.Response(200, json=status)) as client:
        assert client.look() == Look(7, "i-1")
    with client_answering(lambda _request: httpx.Response(200, json={"polls": 8, "incident": None})) as client:
        assert client.look() == Look(8, None)


@pytest.mark.parametrize("last", ["closed", "escalated"])
def test_incident_is_followed_until_its_end(last):
    with stream_of(
        event("opened"), ": ping\n\n", event("diagnosed", "it is so", is_confirmed=True), event(last)
    ) as client:
        told = list(client.follow("i/1", PATIENT_S))
    assert [each.kind for each in told] == ["opened", "diagnosed", last]
    assert told[1] == Told("diagnosed", "it is so", {"is_confirmed": True})


def test_a_stream_that_breaks_off_is_an_error():
    with stream_of(event("opened")) as client, pytest.raises(LabError, match="ended before"):
        list(client.follow("i", PATIENT_S))


def test_stream_of_heartbeats_alone_times_out():
    now_s = iter(range(0, 1_000, 15))
    with stream_of(event("opened"), *[": ping\n\n"] * 20) as client, pytest.raises(LabError, match="within 60 s"):
        list(client.follow("i", PATIENT_S, clock=lambda: float(next(now_s))))


def test_rejection_is_quoted_in_the_error():
    problem = httpx.Response(404, json={"detail": "No incident has this id."})
    with client_answering(lambda _request: problem) as client:
        for ask in (client.look, lambda: client.incident("i"), lambda: client.postmortem("i", "md")):
            with pytest.raises(LabError, match="No incident has this id"):
                ask()
        with pytest.raises(LabError, match="404"):
            list(client.follow("i", PATIENT_S))


def test_postmortem_is_requested_in_its_format():
    with client_answering(lambda request: httpx.Response(200, text=str(request.url))) as client:
        assert client.postmortem("i/1", "html") == "http://responder/agent/incidents/i%2F1/postmortem?format=html"
