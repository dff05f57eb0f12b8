"""The doctor of folders that do not open: each is a finding with a way out, none a traceback."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import matinee as mt
from matinee.cli import run
from matinee.doctor import examine_folder
from matinee.exceptions import StorageError


class Watched(mt.Fact, key="member"):
    member: int


def made(folder: Path) -> Path:
    with mt.open(folder) as studio:
        studio.facts.register(Watched)
        studio.facts.append(Watched, [{"member": 7, "at": studio.clock()}])
    return folder


def test_a_moved_studio_is_told_how_to_adopt_its_place_and_is_well_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.move(made(tmp_path / "acme"), moved)
    (finding,) = examine_folder(moved).findings
    assert (finding.check, finding.state) == ("opening", "broken")
    told = re.search("`matinee (relocate .*)`", finding.detail)
    assert told is not None
    with pytest.raises(StorageError, match="adopt its new place"), mt.open(moved) as studio:
        studio.seal()
    assert run([*shlex.split(told[1]), "--json"]) == 0
    assert "watched" in [t["table"] for t in json.loads(capsys.readouterr().out)]
    assert examine_folder(moved).healthy
    with mt.open(moved) as studio:
        studio.facts.register(Watched)
        assert studio.as_of(Watched)["member"].to_list() == [7]


def test_a_damaged_marker_is_a_finding(tmp_path: Path) -> None:
    folder = made(tmp_path / "acme")
    (folder / "studio.json").write_text("{")
    (finding,) = examine_folder(folder).findings
    assert finding.state == "broken"
    assert "JSONDecodeError" in finding.detail
