"""The studio's small database: numbers, leases and runs, across threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from matinee.exceptions import StorageError
from matinee.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path / "studio.db")
    yield made
    made.close()


def _child(path: Path, code: str) -> subprocess.Popen[str]:
    text = f"from pathlib import Path\nfrom matinee.registry import Registry\nr = Registry(Path({str(path)!r}))\n{code}"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_reserved_numbers_are_consecutive_and_per_counter(registry: Registry) -> None:
    assert [registry.reserve("a"), registry.reserve("a", 5), registry.reserve("a"), registry.reserve("b")] == [1, 2, 7, 1]


def test_no_two_processes_get_the_same_number(registry: Registry) -> None:
    children = [_child(registry.path, "print(*[r.reserve('n', 3) for _ in range(40)])") for _ in range(3)]
    firsts = [int(n) for c in children for n in c.communicate(timeout=60)[0].split()]
    assert sorted(firsts) == list(range(1, 1 + 3 * 120, 3))


def test_what_fails_inside_a_transaction_leaves_nothing(registry: Registry) -> None:
    with pytest.raises(RuntimeError), registry.transaction() as db:
        db.execute("INSERT INTO counters VALUES ('x', 9)")
        raise RuntimeError
    assert registry.query("SELECT * FROM counters") == []
    assert registry.reserve("x") == 1


def test_runs_are_remembered(registry: Registry) -> None:
    assert registry.recall("append:1") is None
    registry.remember("append:1", "append", {"rows": 3})
    registry.remember("append:1", "append", {"rows": 4})
    assert registry.recall("append:1") == {"rows": 4}


def test_a_transaction_within_another_is_part_of_it(registry: Registry) -> None:
    with pytest.raises(KeyError), registry.transaction():
        registry.remember("inner", "append", {})
        raise KeyError
    assert registry.recall("inner") is None


def test_closing_waits_for_who_is_reading_and_tells_who_comes_late(registry: Registry) -> None:
    """SQLite would crash the process."""
    said: list[str] = []

    def read() -> None:
        slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT count(*) FROM n"
        try:
            while True:
                assert registry.query(slow) == [(20_000,)]
                if closed.is_set():
                    said.append("opened anew")
                    return
        except StorageError as error:
            said.append(str(error))

    closed = threading.Event()
    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        registry.close()
    closed.set()
    for thread in threads:
        thread.join()
    assert len(said) == 6
    assert all(one == "opened anew" or "closed" in one for one in said)
