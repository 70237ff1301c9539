"""The client of these tests behaves as Starlette's, which calls the app's event loop more often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.testclient import TestClient

from support.api.client import LOOPBACK_URL, loopback_client

CLIENTS: dict[str, Callable[[FastAPI], TestClient]] = {
    "one call": loopback_client,
    "starlette": lambda app: TestClient(app, LOOPBACK_URL, client=("127.0.0.1", 50_000), follow_redirects=False),
}
# What the server adds to a request, and the extensions, of which `OneCallClient` has none.
_OF_THE_SERVER = {"app", "router", "route", "endpoint", "path_params", "extensions"}


def _app() -> FastAPI:
    app = FastAPI()
    app.state.received = []

    @app.get("/parts")
    async def parts(*, breaks: bool = False, is_endless: bool = False) -> StreamingResponse:
        async def each() -> AsyncIterator[bytes]:
            yield b"part;"
            while is_endless:
                yield b"part;"
            if breaks:
                raise LookupError("after the start")
            yield b"end"

        return StreamingResponse(each())

    @app.get("/after")
    async def after(request: Request) -> Response:
        async def receive() -> None:
            app.state.received += [(await request.receive())["type"] for _ in range(2)]

        return Response("done", background=BackgroundTask(receive))

    @app.get("/broken")
    async def broken() -> None:
        raise LookupError("before the start")

    @app.api_route("/{path:path}", methods=["GET", "POST", "HEAD"])
    async def echo(request: Request) -> Response:
        seen = {name: each for name, each in request.scope.items() if name not in _OF_THE_SERVER and "." not in name}
        seen = {name: each for name, each in seen.items() if not name.startswith(("fastapi", "_"))}
        response = Response(f"{sorted(seen.items(), key=lambda item: item[0])!r} {await request.body()!r}", 207)
        response.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        return response

    return app


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with request.param(_app()) as made:
        yield made


def _responses(client: TestClient) -> list[Response]:
    return [
        client.get("/plain"),
        client.get("/a%2Fb/%C3%A9?x=1&x=%202", headers={"Host": "other.example:81"}),
        client.get("/", headers=[("x-twice", "a"), ("X-Twice", "b"), ("x-latin", "\xe9".encode("latin-1"))]),
        client.post("/body", json={"a": 1}),
        client.post("/parts-of-a-body", content=iter([b"a", b"b"])),
        client.get("https://127.0.0.1/secure"),
        client.get("http://[::1]:90/six"),
        client.head("/plain"),
        client.get("/parts"),
    ]


def test_both_clients_send_the_same_requests_and_return_the_same_responses() -> None:
    with loopback_client(_app()) as ours, CLIENTS["starlette"](_app()) as starlettes:
        pairs = list(zip(_responses(ours), _responses(starlettes), strict=True))
        cookies = [
            [(each.domain, each.name, each.value) for each in client.cookies.jar] for client in (ours, starlettes)
        ]

    assert cookies[0] == cookies[1]
    assert ("127.0.0.1", "b", "2") in cookies[0]
    for response, expected in pairs:
        assert response.status_code == expected.status_code
        assert response.text == expected.text
        assert response.headers.multi_items() == expected.headers.multi_items()
    plain, *_, head, parts = [response for response, _ in pairs]
    assert "('client', ('127.0.0.1', 50000))" in plain.text
    assert (head.text, head.status_code) == ("", 207)
    assert parts.text == "part;end"


@pytest.mark.parametrize("path", ["/broken", "/parts?breaks=true"])
def test_exception_of_the_app_is_raised(client: TestClient, path: str) -> None:
    with pytest.raises(LookupError, match="the start"):
        client.get(path)

    assert client.get("/parts").text == "part;end"


def test_request_ends_after_its_background_tasks_which_see_the_client_disconnect(client: TestClient) -> None:
    assert client.get("/after").text == "done"

    assert client.app.state.received == ["http.request", "http.disconnect"]  # type: ignore[attr-defined]


def test_streamed_response_is_read_while_the_app_writes_it(client: TestClient) -> None:
    with client.stream("GET", "/parts?is_endless=true") as response:
        parts = response.iter_bytes()
        assert [next(parts), next(parts)] == [b"part;", b"part;"]


def test_client_outside_of_a_with_block_sends_requests() -> None:
    assert loopback_client(_app()).get("/parts").text == "part;end"
