"""Prometheus and Alertmanager from Debian's packages, and a shop for them to scrape."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import relab
from rig.servers import free_port
from rig.waiting import wait_until
from support.components.required import require_program

HOW_TO = Path(relab.__file__).parents[2] / "docs" / "alerts.md"
_FILES = ("prometheus.yml", "relab.rules.yml", "alertmanager.yml")
_SNIPPET = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STOP_TIMEOUT_S = 20.0


def require_alerting() -> None:
    """Return if all programs are installed; else skip the test, or fail it where no test may be skipped."""
    for program in ("prometheus", "promtool", "prometheus-alertmanager", "amtool"):
        require_program(program, ".ci/system-packages")


def snippets() -> dict[str, str]:
    """Return the configuration files of the guide, by file name."""
    return dict(zip(_FILES, _SNIPPET.findall(HOW_TO.read_text()), strict=True))


def write_config(folder: Path, name: str, changed: Mapping[str, str]) -> Path:
    """Write a snippet of the guide with some of its words replaced; each word must occur in it."""
    text = snippets()[name]
    for word, other in changed.items():
        assert word in text, f"{word!r} is not in the {name} of {HOW_TO.name}"
        text = text.replace(word, other)
    path = folder / name
    path.write_text(text)
    return path


def run_program(*command: str, cwd: Path, stdin: str = "") -> str:
    """Run a command that must succeed, and return its output."""
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@dataclass
class Program:
    """A running server: Prometheus or Alertmanager.

    Attributes:
        url: the base URL of its API.
    """

    url: str
    log: Path

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON of a GET request to the API."""
        response = httpx.get(self.url + path, params=query, timeout=30, trust_env=False, verify=False)
        assert response.status_code == httpx.codes.OK, response.text
        return response.json()

    def total(self, name: str, **labels: str) -> float:
        """Return one of the server's own metrics, summed over all samples with these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False, verify=False).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def answers(self) -> bool:
        """Return whether the server is ready."""
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False, verify=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[Program]:
    """Run Prometheus while the block runs."""
    with _running(folder, "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'series'}") as made:
        yield made


@contextmanager
def alertmanager(folder: Path, config: Path, port: int) -> Iterator[Program]:
    """Run an Alertmanager without a cluster while the block runs."""
    options = (f"--config.file={config}", f"--storage.path={folder / 'notified'}", "--cluster.listen-address=")
    with _running(folder, "prometheus-alertmanager", *options, port=port) as made:
        yield made


@contextmanager
def _running(folder: Path, program: str, *options: str, port: int | None = None) -> Iterator[Program]:
    path = shutil.which(program)
    assert path is not None
    address = f"127.0.0.1:{port or free_port()}"
    made = Program(f"http://{address}", folder / f"{program}.log")
    with made.log.open("wb") as log:
        command = [path, *options, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def is_ready() -> bool:
            assert process.poll() is None, f"{program} has ended:\n{made.log.read_text()[-3_000:]}"
            return made.answers()

        wait_until(is_ready, what=f"{program} being ready")
        yield made
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


@dataclass(eq=False)
class ScrapedShop(Collector):
    """The metrics of a shop: each scrape adds 100 requests per route, of which 60 fail on some routes.

    Attributes:
        failing: the routes with failing requests.
    """

    failing: set[str] = field(default_factory=set)
    _requests: float = 0
    _failed: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("/cart", "/checkout", "/search"), 0.0))

    def collect(self) -> Iterable[Metric]:
        """Add 100 requests per route and yield the counters."""
        self._requests += 100
        count = CounterMetricFamily(
            "shop_request_errors", "Requests by kind of failure.", labels=("http_route", "kind")
        )
        # The rules read only this sample of the histogram.
        requests = Metric("http_server_request_duration_seconds", "Answered requests.", "untyped")
        for route in self._failed:
            self._failed[route] += 60 if route in self.failing else 0
            count.add_metric((route, "server"), self._failed[route])
            requests.add_sample("http_server_request_duration_seconds_count", {"http_route": route}, self._requests)
        yield from (count, requests)


@contextmanager
def a_scraped_shop(*failing: str) -> Iterator[tuple[ScrapedShop, str]]:
    """Yield a shop whose given routes fail from the beginning, and the address of its metrics."""
    shop, registry = ScrapedShop(set(failing)), CollectorRegistry()
    registry.register(shop)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield shop, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def scraping(folder: Path, registry: CollectorRegistry, every_ms: int = 250) -> Iterator[str]:
    """Run a Prometheus that scrapes a registry, and yield its URL; `folder` gets its files."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: {every_ms}ms, scrape_timeout: {every_ms}ms}}\n"
        f"scrape_configs: [{{job_name: service, static_configs: [{{targets: ['127.0.0.1:{server.server_port}']}}]}}]\n"
    )
    try:
        with prometheus(folder, config) as program:
            # Prometheus may need 5 s to read its list of targets.
            wait_until(lambda: program.get("/api/v1/query", query="up == 1")["data"]["result"], what="a first scrape")
            yield program.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
