"""Chart pages: scripts and templates come only from the package and the user's own cache."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from relab.charts.pages import environment, vega
from relab.experiments.results.report import write_report
from rig.trial_rows import trial_row, write_run

NAME = f"vega-{version('vl-convert-python')}.js"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vega.cache_clear()
    yield
    vega.cache_clear()


def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "relab" / NAME


def test_chart_libraries_are_kept_in_the_users_own_cache(tmp_path: Path) -> None:
    bundle = vega()
    assert kept(tmp_path).read_text(encoding="utf-8") == bundle
    assert [path.name for path in kept(tmp_path).parent.iterdir()] == [NAME]
    kept(tmp_path).write_text("those that were kept", encoding="utf-8")
    vega.cache_clear()
    assert vega() == "those that were kept"


def test_chart_libraries_load_without_a_usable_cache(tmp_path: Path) -> None:
    bundle = vega()
    kept(tmp_path).write_bytes(b"\xff\xfe")
    vega.cache_clear()
    assert vega() == bundle
    assert kept(tmp_path).read_text(encoding="utf-8") == bundle
    for path in (kept(tmp_path), kept(tmp_path).parent):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "cache" / "relab").write_text("a file where the folder should be")
    vega.cache_clear()
    assert vega() == bundle


def test_foreign_project_adds_no_script_to_a_report(tmp_path: Path) -> None:
    project = tmp_path / "theirs"
    planted = project / ".lab" / "cache" / NAME
    planted.parent.mkdir(parents=True)
    planted.write_text("alert('planted')")
    run_dir = write_run(project / ".lab" / "runs" / "run_1", [trial_row("base", 1), trial_row("better", 1)])
    assert b"planted" not in write_report(run_dir).read_bytes()


def test_compiled_template_is_read_from_the_users_own_cache(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("{{ value }}")
    first = environment(tmp_path).get_template("page.html").render(value="<")
    (compiled,) = (tmp_path / "cache" / "relab" / "templates").iterdir()
    written = compiled.stat().st_mtime_ns

    assert environment(tmp_path).get_template("page.html").render(value="<") == first == "&lt;"
    assert compiled.stat().st_mtime_ns == written


@pytest.mark.parametrize("cut", [0, 5, 40, -10])
def test_damaged_compiled_template_is_compiled_again(tmp_path: Path, cut: int) -> None:
    (tmp_path / "page.html").write_text("{{ value }}")
    environment(tmp_path).get_template("page.html")
    (compiled,) = (tmp_path / "cache" / "relab" / "templates").iterdir()
    whole = compiled.read_bytes()
    compiled.write_bytes(whole[:cut])

    assert environment(tmp_path).get_template("page.html").render(value="x") == "x"
    assert compiled.read_bytes() == whole


def test_changed_template_is_compiled_again(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    environment(tmp_path).get_template("page.html")
    page.write_text("new")

    assert environment(tmp_path).get_template("page.html").render() == "new"
