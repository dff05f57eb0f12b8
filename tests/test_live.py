"""Serving in one process: threads that wait for the disk share a sync, and an event counts once across a reload."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from benchmarks.serving import build

import matinee as mt
from matinee.ledger import Ledger, wal

FILMS = Path(__file__).parent / "serve" / "real_domain.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio with films, one released policy and published features; each test has its own viewer."""
    root = tmp_path_factory.mktemp("live") / "films"
    mt.open(root).close()
    shutil.copy(FILMS, root / "films.py")
    (root / "matinee.toml").write_text('domains = []\nmodules = ["films.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    with mt.open(root) as studio:
        studio.append("film", pl.DataFrame({"film": [1, 2, 3], "maturity": [0, 6, 12], "at": [at] * 3}))
        rows = {"viewer": [7, 8, 9], "film": [1] * 3, "seconds": [60.0] * 3, "at": [at] * 3}
        studio.append("watched", pl.DataFrame(rows))
        studio.release("front", mt.Uniform(), 1.0, by="tests")
        studio.publish()
    return root


def in_threads(n: int, work: Callable[[int], object]) -> None:
    """Run `work(i)` in n threads at once."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_wait_for_the_disk_share_a_sync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []

    def slow(fd: int) -> None:
        syncs.append(fd)
        time.sleep(0.05)

    monkeypatch.setattr(wal, "_sync", slow)
    with mt.open(folder) as studio:
        monkeypatch.setitem(studio.config, "durability", "disk")
        studio.decide("front", 7)
        syncs.clear()

        def both(i: int) -> None:
            made = studio.decide("front", 7)
            studio.record(made, "watched", {"viewer": 7, "film": 1, "seconds": float(i)}, id=f"o{i}")

        in_threads(12, both)
        assert len(syncs) <= 8, "24 records, each with a sync of its own, would be 24"
        assert studio.features_of("habit", 7)["plays"] == 13


def test_an_outcome_published_before_it_is_taken_in_counts_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mt.open(folder) as studio:
        made = studio.decide("front", 8)
        append = Ledger.append

        def published_meanwhile(self: Ledger, record: mt.Outcome) -> int:
            segment = append(self, record)
            if isinstance(record, mt.Outcome):
                studio.seal()
                studio.publish()
                studio.refresh()
                append(self, made)  # the next segment is open by now
            return segment

        monkeypatch.setattr(Ledger, "append", published_meanwhile)
        studio.record(made, "watched", {"viewer": 8, "film": 2, "seconds": 10.0})
        monkeypatch.undo()
        assert studio.features_of("habit", 8)["plays"] == 2


def test_the_same_outcome_from_many_threads_counts_once(folder: Path) -> None:
    with mt.open(folder) as studio:
        made = studio.decide("front", 9)
        row = {"viewer": 9, "film": 2, "seconds": 10.0}
        in_threads(8, lambda i: studio.record(made, "watched", row, id="one"))
        assert studio.features_of("habit", 9)["plays"] == 2


def test_what_the_guards_keep_out_of_a_proposal_is_made_up_from_the_whole_catalogue(tmp_path: Path) -> None:
    """300 of 600 titles are proposed; a profile of age 0 may see a fifth of them, and has 100 slots."""
    build(tmp_path / "studio", titles=600, members=12, history=20)
    with mt.open(tmp_path / "studio") as studio:
        young, grown = studio.decide("top", 3, age=0), studio.decide("top", 3, age=18)
        ages = dict(studio.as_of("film").select("film", "maturity").iter_rows())
    assert len(young.action) == len(grown.action) == 100
    assert {ages[film] for film in young.candidates} == {0}, "all that is drawn from is allowed"
    assert sum(age == 0 for age in ages.values()) >= len(young.candidates) > 100
    assert young.blocked["maturity"], "what was proposed and kept out stays in the record"
    assert set(young.candidates).isdisjoint(young.blocked["maturity"])
