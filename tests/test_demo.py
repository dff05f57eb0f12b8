"""What the demo does around its loop: room is made only where a demo was, and its studio begins with its own module."""

from __future__ import annotations

from pathlib import Path

import pytest

import matinee as mt
from matinee.demo import MODULE, _begin, _make_room
from matinee.exceptions import StorageError


def test_a_demo_makes_room_for_itself_and_takes_away_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "acme"
    with mt.open(mine):
        pass
    (mine / "here.py").write_text('"""My own module."""\n')
    with pytest.raises(StorageError, match="must be a new folder, or one that a demo has made"):
        _make_room(mine)
    assert (mine / "studio.json").is_file()
    (mine / "here.py").unlink()
    with pytest.raises(StorageError):
        _make_room(mine)
    _make_room(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    _make_room(tmp_path / "empty")
    (mine / "here.py").write_text(MODULE.format(routes=["north"]))
    _make_room(mine)
    assert not mine.exists()


def test_the_studio_of_the_demo_has_its_own_retry(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    _begin(root, ["north", "east"])
    with mt.open(root) as studio:
        assert {"home", "route", "retry"} <= studio.decisions.keys()
        options = studio.decision("retry").options
        assert options is not None and any("east" in str(o) for o in options.candidates().ids.tolist())
        assert studio.config.get("title") == "Demo"
