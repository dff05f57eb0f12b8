"""The doctor of folders that do not open: each is a finding with a way out, none a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import matinee as mt
from matinee.doctor import examine_folder
from matinee.tables import Tables


class Watched(mt.Fact, key="member"):
    member: int


def made(folder: Path) -> Path:
    with mt.open(folder) as studio:
        studio.facts.register(Watched)
        studio.facts.append(Watched, [{"member": 7, "at": studio.clock()}])
    return folder


def test_a_moved_studio_is_told_how_to_adopt_its_place_and_is_well_after_it(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(made(tmp_path / "acme"), moved)
    (finding,) = examine_folder(moved).findings
    assert (finding.check, finding.state) == ("opening", "broken")
    assert f"Tables.relocate('{moved}')" in finding.detail
    Tables.relocate(moved)
    assert examine_folder(moved).healthy


def test_a_damaged_marker_is_a_finding(tmp_path: Path) -> None:
    folder = made(tmp_path / "acme")
    (folder / "studio.json").write_text("{")
    (finding,) = examine_folder(folder).findings
    assert finding.state == "broken"
    assert "JSONDecodeError" in finding.detail
