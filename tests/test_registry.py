"""The studio's small database: numbers, leases and runs, across threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from matinee.exceptions import TableBusyError
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


def test_a_lease_keeps_others_out_until_it_ends_and_its_token_grows(registry: Registry) -> None:
    with registry.lease("seal") as first:
        with pytest.raises(TableBusyError, match=f"'seal' is held by process {os.getpid()}"), registry.lease("seal"):
            pass
        with registry.lease("another"):
            pass
    with registry.lease("seal") as second:
        assert second > first


def test_a_lease_whose_time_is_over_is_free(registry: Registry) -> None:
    with registry.lease("seal", seconds=0.01) as first:
        time.sleep(0.02)
        with registry.lease("seal") as second:
            assert second == first + 1
    # The first holder left late: it must not have ended the second's successor.
    with registry.lease("seal") as third:
        assert third == second + 1


def test_the_lease_of_a_process_that_died_is_taken_over_at_once(registry: Registry) -> None:
    dying = "import os\nwith r.lease('seal', seconds=3600) as t:\n    print(t, flush=True)\n    os._exit(9)"
    child = _child(registry.path, dying)
    token = int(child.communicate(timeout=60)[0])
    assert child.returncode == 9
    with registry.lease("seal") as taken:
        assert taken == token + 1


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
