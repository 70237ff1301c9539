"""The configuration of a testbed: its name, its public ports, and the table of the relab programs that it runs.

In the command of a row of this table, `{python}`, `{port}`, `{number}` and other names in braces are replaced by
the testbed's values (`values_of` in `table.py` lists them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from relab.testbed.models import Strict

HEALTH_PATH = "/api/v1/health"


class ProgramRow(Strict):
    """A relab program that the supervisor runs.

    Attributes:
        name: the name of the program's component.
        group: the name of the component's group.
        command: program and arguments. Words in braces, such as `{port}`, are replaced by values of the testbed
            (`values_of` in `table.py` lists them).
        count: number of processes. Each process is a component; several are named `NAME-1`, `NAME-2` and so on. In
            requests to the supervisor, `NAME` then means all of them.
        port: the name of the public port, which all processes share; None for no public port.
        ready_path: an HTTP path that answers with 200 when the program is ready; None to count as ready at once.
        stage: number of the start stage. Programs of stage 0 start together with PostgreSQL, Redis and the links
            (network proxies); programs of a later stage start when all components of the previous stages are ready.
        hidden: whether the program is left out of the lists that a responder may see.
        started: whether the program is started at the beginning of an episode (one test of a responder).
        episode_end_path: the HTTP path of a POST that makes the program forget the previous episode; None to restart
            the program instead.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    group: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    command: list[str] = Field(min_length=1)
    port: Literal["target", "chaos", "actions"] | None = None
    ready_path: str | None = Field(None, pattern=r"^/")
    count: int = Field(1, ge=1, le=64)
    stage: int = Field(1, ge=0, le=9)
    hidden: bool = False
    started: bool = True
    episode_end_path: str | None = Field(None, pattern=r"^/")

    @model_validator(mode="after")
    def _need_port(self) -> Self:
        if self.port is None and (self.ready_path or self.episode_end_path):
            raise ValueError(f"{self.name}: a path needs a port")
        return self


TARGET_ROW = ProgramRow(
    name="worker",
    group="target",
    command=["{python}", "-m", "relab.testbed.target", "--settings", "{settings}", "--worker", "{number}"],
    port="target",
    ready_path=HEALTH_PATH,
    count=2,
    # The worker's imports take longer than the start of its dependencies, so start both at once.
    stage=0,
)

ACTIONS_ROW = ProgramRow(
    name="actions",
    group="actions",
    command=[
        "{python}", "-m", "relab.testbed.actions", "--control", "{control}", "--target", "{target_url}",
        "--audit", "{audit}", "--tokens", "{tokens}", "--port", "{port}",
    ],
    port="actions",
    ready_path="/health",
    stage=0,
    episode_end_path="/forget",
)  # fmt: skip
CHAOS_ROW = ProgramRow(
    name="chaos",
    group="chaos",
    command=[
        "{python}", "-m", "relab.testbed.chaos", "--control", "{control}", "--links", "{links}",
        "--private", "{private}", "--target", "{target_url}", "--port", "{port}",
    ],
    port="chaos",
    ready_path="/health",
    stage=0,
    hidden=True,
    episode_end_path="/forget",
)  # fmt: skip
REPORT_ROW = ProgramRow(
    name="report-job",
    group="jobs",
    command=["{python}", "-m", "relab.testbed.jobs", "--settings", "{settings}", "--order", "{report_order}"],
    started=False,
)

OPEN_ACTIONS_ROW = ACTIONS_ROW.model_copy(update={"command": [*ACTIONS_ROW.command, "--open"]})
"""The action server, with which local programs need no token."""

STANDARD_ROWS: tuple[ProgramRow, ...] = (TARGET_ROW, ACTIONS_ROW, CHAOS_ROW, REPORT_ROW)
"""All programs of a testbed beside PostgreSQL, Redis and the links."""
OPEN_ROWS = tuple(OPEN_ACTIONS_ROW if row is ACTIONS_ROW else row for row in STANDARD_ROWS)
"""The same programs as `STANDARD_ROWS`, but other programs on this machine may request actions without a token."""


class Ports(Strict):
    """The public ports of a testbed: for the target, the chaos server (faults), and the action server (repairs)."""

    target: Annotated[int, Field(ge=1, le=65_535)]
    chaos: Annotated[int, Field(ge=1, le=65_535)]
    actions: Annotated[int, Field(ge=1, le=65_535)]


class SupervisorPlan(Strict):
    """The configuration of one testbed.

    Attributes:
        home: relab's home folder.
        name: the name of the testbed.
        ports: the public ports.
        rows: the programs to run beside PostgreSQL, Redis and the links (network proxies).
        seed_module: the module that creates the initial data, with `seed(connection)`, `write_products(path)` and a
            `schema.sql` beside it.
        python_path: additional folders for imports by the programs.
        target: settings of the target that differ from the defaults, by name; a section is a nested object.
        breaker_secret: the secret that the chaos server requires; None to accept all programs of this machine.
        start_within_s: time limit in seconds until all components are ready. The creation of a template does not count.
        template_within_s: time limit in seconds for the creation of a template: the prepared initial data, which is
            copied to each testbed.
    """

    home: Path
    name: str
    ports: Ports
    rows: list[ProgramRow] = Field(default_factory=lambda: list(STANDARD_ROWS))
    seed_module: str = "relab.testbed.target.seed"
    python_path: list[Path] = Field(default_factory=list)
    target: dict[str, Any] = Field(default_factory=dict)
    breaker_secret: str | None = Field(None, min_length=32, max_length=200, repr=False)
    start_within_s: float = Field(30.0, gt=0, le=600)
    template_within_s: float = Field(60.0, gt=0, le=3_600)
