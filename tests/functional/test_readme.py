"""The commands of the README's section "Five minutes" work and print the lines that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.components.required import require_program
from support.lab.process import LabProcess, lab_environment

README = Path(__file__).parents[2] / "README.md"


def _tour() -> list[tuple[str, list[str]]]:
    """Return `(command, expected lines of output)` for each command of the section."""
    section = README.read_text().split("## Five minutes", 1)[1].split("\n## ", 1)[0]
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.rstrip("\n").split("\n")
            # A command continues while a quotation is open: the body of the post is one argument.
            end = 1
            while sum(line.count("'") for line in lines[:end]) % 2:
                end += 1
            steps.append(("\n".join(lines[:end]), [line for line in lines[end:] if line not in {"", "..."}]))
    return steps


def test_every_command_of_the_tour_works_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    require_program("curl", "apt-get install curl")
    steps = _tour()
    assert [command.split("#")[0].strip() for command, _ in steps[:2]] == ["source .venv/bin/activate", "lab serve"]
    bin_folder = Path(sys.executable).parent
    with LabProcess.serve(tmp_path / "home") as server:
        environment = lab_environment(tmp_path / "home")
        environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
        for command, shown in steps[2:]:
            done = subprocess.run(
                ["bash", "-c", command.replace("http://127.0.0.1:8000", server.url)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            printed = " ".join(done.stdout.split())
            for line in shown:
                assert " ".join(line.split()) in printed, f"{command}\n{done.stdout}"


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "docs/map.md", "docs/reference.md", "docs/design/README.md"]
)
def test_every_link_to_a_file_has_an_existing_target(path: str) -> None:
    root = README.parent
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (root / path).read_text()):
        assert (root / path).parent.joinpath(target).exists(), f"{path} links to {target}"
