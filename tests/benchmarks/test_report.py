"""The page of benchmarks: figures are rewritten, what people wrote around them stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.protocols import PROTOCOLS
from benchmarks.report import UNMEASURED, cell, main, table


def result(folder: Path, name: str, rows: list[dict[str, Any]], file: str = "") -> None:
    """What a benchmark writes with `--json`."""
    folder.mkdir(exist_ok=True)
    made = {"benchmark": name, "rows": rows, "settings": {"seconds": 6.0, "cores": 2, "smoke": False}}
    (folder / f"{file or name}.json").write_text(json.dumps(made))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Where the page is written."""
    return tmp_path / "docs" / "benchmarks.md"


def report(tmp_path: Path, page: Path) -> str:
    """Write the page and read it."""
    main(["--results", str(tmp_path / "out"), "--docs", str(page), "--notes", str(tmp_path / "notes")])
    return page.read_text()


def test_a_section_has_protocol_target_figures_and_what_was_tried(tmp_path: Path, page: Path) -> None:
    result(tmp_path / "out", "decide", [{"system": "matinee", "dataset": "10 of 200", "p50_us": 112.34}])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "decide.md").write_text("A compiled draw: 40 us less.\n")
    text = report(tmp_path, page)
    part = text.split("<!-- begin decide -->")[1].split("<!-- end decide -->")[0]
    assert f"- Target: {PROTOCOLS['decide'].target}" in part
    assert "| system | dataset | p50_us |\n|---|---|---:|\n| matinee | 10 of 200 | 112 |" in part
    assert "Settings: seconds 6, cores 2." in part
    assert "### What was tried\n\nA compiled draw: 40 us less." in part
    assert UNMEASURED in text.split("<!-- begin facts -->")[1].split("<!-- end facts -->")[0]


def test_text_around_the_sections_and_sections_without_new_figures_stay(tmp_path: Path, page: Path) -> None:
    result(tmp_path / "out", "decide", [{"system": "matinee", "p50_us": 112.0}])
    result(tmp_path / "out", "facts", [{"system": "matinee", "append_seconds": 4.0}])
    first = report(tmp_path, page)
    page.write_text(first.replace("<!-- begin decide -->", "By hand.\n\n<!-- begin decide -->") + "\nAt the end.\n")
    (tmp_path / "out" / "facts.json").unlink()
    result(tmp_path / "out", "decide", [{"system": "matinee", "p50_us": 99.0}])
    second = report(tmp_path, page)
    assert "By hand.\n\n<!-- begin decide -->" in second
    assert second.endswith("\nAt the end.\n")
    assert "| matinee | 4 |" in second
    assert "| matinee | 99 |" in second
    assert "112" not in second.split("<!-- begin decide -->")[1].split("<!-- end decide -->")[0]
    assert report(tmp_path, page) == second


def test_several_files_of_one_benchmark_are_several_tables(tmp_path: Path, page: Path) -> None:
    for name in ("ml-1m", "beauty"):
        result(tmp_path / "out", "next_title", [{"system": "matinee", "dataset": name}], f"next_title-{name}")
    part = report(tmp_path, page).split("<!-- begin next_title -->")[1].split("<!-- end next_title -->")[0]
    assert part.index("| matinee | beauty |") < part.index("| matinee | ml-1m |")


def test_a_file_that_is_no_result_is_named(tmp_path: Path, page: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "odd.json").write_text("[]")
    with pytest.raises(ValueError, match="odd.json is no result of a benchmark"):
        report(tmp_path, page)
    assert not page.exists()


def test_cells() -> None:
    assert cell(0.00012345) == "0.000123"
    assert cell(123456.7) == "123,457"
    assert cell("a|b") == "a\\|b"
    assert cell([0.1, 0.25]) == "0.1 to 0.25"
    assert table([{"system": "peer", "absent": "not | installed", "x": None}]).splitlines()[-1] == "| peer | not \\| installed |"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/opt/peers/bin/python", "python"),
        ("no such file: '/tmp/x1/all/all.csv'", "no such file: 'all.csv'"),
        ("../shared/data/log", "../shared/data/log"),
        ("hr10/ndcg10 and 1/2", "hr10/ndcg10 and 1/2"),
    ],
)
def test_no_path_of_the_machine_is_printed(value: str, shown: str) -> None:
    assert cell(value) == shown
