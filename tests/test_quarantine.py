"""Bad rows wait whole, with their reasons, until somebody lets them go."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from matinee.disk import write_whole
from matinee.exceptions import StorageError, UnknownNameError
from matinee.quarantine import Quarantine


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


def test_the_same_rows_from_the_same_source_are_kept_once(quarantine: Quarantine) -> None:
    rows = [({"member": 1, "seconds": -3.0}, ["seconds == -3.0, must be >= 0"])]
    first = quarantine.put("played", rows, "a.csv")
    assert first == quarantine.put("played", rows, "a.csv")
    assert first != quarantine.put("played", rows, "b.csv")
    assert quarantine.put("played", [], "a.csv") is None
    assert (quarantine.count(), len(quarantine.batches())) == (2, 2)


def test_reasons_that_differ_in_the_value_only_are_counted_together(quarantine: Quarantine) -> None:
    rows = [({"n": n}, [f"seconds == {n}, must be >= 0", "another"]) for n in (-1, -2, -3)]
    batch = quarantine.put("played", rows, "a.csv")
    assert quarantine.list().groups == (("played", batch, "a.csv", "seconds, must be >= 0", 3),)
    assert [h.reasons[1] for h in quarantine.rows(batch or "")] == ["another"] * 3
    assert [r["n"] for r in (h.row for h in quarantine.rows(batch or ""))] == [-1, -2, -3]


def test_an_erasure_removes_rows_and_their_bytes_and_no_other(quarantine: Quarantine) -> None:
    mixed = quarantine.put("played", [({"member": m}, ["bad"]) for m in ("marker", "kept")], "a.csv")
    only = quarantine.put("played", [({"member": "marker"}, ["bad"])], "b.csv")
    assert quarantine.erase(lambda _fact, row: row["member"] == "marker") == 2
    assert [h.row for h in quarantine.rows(mixed or "")] == [{"member": "kept"}]
    assert only not in dict(quarantine.batches()).values()
    assert not any(b"marker" in p.read_bytes() for p in quarantine.folder.rglob("*") if p.is_file())


def test_dropping_lets_go_and_unknown_batches_are_named(quarantine: Quarantine) -> None:
    batch = quarantine.put("played", [({"a": 1}, ["bad"])], "a.csv")
    assert quarantine.drop(batch or "") == 1
    assert quarantine.list().notes() == ["nothing is in quarantine"]
    with pytest.raises(UnknownNameError, match="batch == "):
        quarantine.rows(batch or "")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.json"
    write_whole(target, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device.*nothing was changed"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_rows_with_places_of_their_own_are_one_batch_listed_once(quarantine: Quarantine) -> None:
    rows = [({"n": n}, [f"n == {n}, must be >= 0"], f"web-00000000/000001:{n}") for n in range(3)]
    batch = quarantine.put_each("played", rows)
    assert batch == quarantine.put_each("played", rows), "a seal that is repeated after a crash"
    assert quarantine.list().groups == (("played", batch, "web-00000000/000001:0", "n, must be >= 0", 3),)
    assert [h.source for h in quarantine.rows(batch or "")] == [r[2] for r in rows]


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "x" * 300, "\ud800", "no fact"])
def test_a_name_that_is_no_facts_becomes_no_folder(quarantine: Quarantine, name: str) -> None:
    batch = quarantine.put(name, [({"a": 1}, ["bad"])], "log")
    assert quarantine.batches() == [("log", batch)]


@pytest.mark.parametrize("batch", ["*", "../x", "", "0" * 12 + "/..", "?" * 12])
def test_only_a_batchs_own_name_finds_it(quarantine: Quarantine, batch: str) -> None:
    quarantine.put("played", [({"a": 1}, ["bad"])], "a.csv")
    with pytest.raises(UnknownNameError, match="batch == "):
        quarantine.rows(batch)


def test_a_claimed_batch_is_apart_from_the_same_rows_sent_again(quarantine: Quarantine) -> None:
    first = quarantine.put("played", [({"a": 1}, ["bad"])], "a.csv") or ""
    claimed = quarantine.claim(first)
    assert quarantine.claim(claimed) == claimed != first
    assert quarantine.put("played", [({"a": 1}, ["bad"])], "a.csv") == first
    quarantine.let_go(claimed)
    assert quarantine.batches() == [("played", first)]


def test_threads_that_write_one_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    target = tmp_path / "x.json"

    def write(i: int) -> None:
        for _ in range(20):
            write_whole(target, bytes([65 + i]) * 50_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    data = target.read_bytes()
    assert data == data[:1] * 50_000
