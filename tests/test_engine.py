"""engine.map: the same results from every engine, failures that name the shard, no processes left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from matinee import engine
from matinee.exceptions import MatineeError, ShardError


def square(n: int) -> int:
    return n * n


def scale(n: int, by: int) -> int:
    return n * by


def inverse(n: int) -> float:
    return 1 / n


def threads(_: int) -> tuple[str, str, int]:
    import polars as pl

    return os.environ["POLARS_MAX_THREADS"], os.environ["OMP_NUM_THREADS"], pl.thread_pool_size()


def ignores_interrupts(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def die(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def fail_first_else_mark_and_hang(shard: tuple[int, str]) -> None:
    n, folder = shard
    if n == 0:
        while not list(Path(folder).iterdir()):  # until the other one is at work
            os.sched_yield()
        raise RuntimeError("the reel tore")
    (Path(folder) / str(os.getpid())).touch()
    threading.Event().wait(60)


@pytest.fixture(params=["serial", "local", pytest.param("ray", marks=pytest.mark.slow)])
def any_engine(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        pytest.importorskip("ray", reason="Ray is an extra and is not installed")
    return str(request.param)


def test_results_come_in_order_and_are_the_same_on_every_engine(any_engine: str) -> None:
    seen: list[tuple[int, int]] = []
    found = engine.map(square, list(range(5)), engine=any_engine, workers=2, progress=lambda d, t: seen.append((d, t)))
    assert found == [0, 1, 4, 9, 16]
    assert seen == [(i, 5) for i in range(1, 6)]
    assert engine.map(partial(scale, by=3), [1, 2], engine=any_engine, workers=1) == [3, 6]


def test_failure_names_shard_cause_and_traceback(any_engine: str) -> None:
    with pytest.raises(ShardError) as caught:
        engine.map(inverse, [1, 0], engine=any_engine, workers=1)
    text = str(caught.value)
    assert text.startswith(
        "shard 1 of 2 (0) failed, the others were cancelled: ZeroDivisionError: division by zero\n\n"
    )
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "return 1 / n" in text


def test_no_shards_give_no_results_and_start_nothing() -> None:
    assert engine.map(square, [], engine="local") == []


def test_workers_get_their_share_of_threads() -> None:
    share = str(max(1, engine.cores() // 2))
    before = dict(os.environ)
    assert engine.map(threads, [0, 1], engine="local", workers=2) == [(share, share, int(share))] * 2
    assert dict(os.environ) == before


def test_lambdas_and_inner_functions_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        MatineeError, match=r"fn == .*<lambda>, must be a function at the top level of a module: a lambda"
    ):
        engine.map(lambda n: n, [1])
    with pytest.raises(MatineeError, match=r"it is defined inside another function.*engine='serial'"):
        engine.map(partial(_inner(), 1), [1])
    assert engine.map(lambda n: n, [1], engine="serial") == [1]


def _inner() -> Callable[[int, int], int]:
    def inside(a: int, b: int) -> int:
        return a + b

    return inside


def test_shard_that_cannot_travel_is_named() -> None:
    with pytest.raises(MatineeError, match=r"shard 0 .* must be picklable"):
        engine.map(square, [threading.Lock()], engine="local")  # type: ignore[arg-type]  # that is the fault


def test_unknown_engine_and_absent_ray_say_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MatineeError, match="did you mean 'ray'"):
        engine.map(square, [1], engine="rays")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MatineeError, match=r"pip install matinee\[ray\]"):
        engine.map(square, [1], engine="ray")


def test_worker_that_is_killed_names_its_shard() -> None:
    with pytest.raises(ShardError, match=r"shard 2 of 4 \(2\) failed.*killed by SIGKILL \(out of memory\?\)"):
        engine.map(die, [0, 1, 2, 3], engine="local", workers=1)


def test_failure_stops_work_that_is_running(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="the reel tore"):
        engine.map(fail_first_else_mark_and_hang, [(0, str(tmp_path)), (1, str(tmp_path))], engine="local", workers=2)
    (other,) = tmp_path.iterdir()
    assert not Path(f"/proc/{other.name}").exists()


INTERRUPTED = """
    import os, pathlib, sys, threading
    from matinee import engine

    def hang(folder):
        (pathlib.Path(folder) / str(os.getpid())).touch()
        threading.Event().wait(60)

    if __name__ == "__main__":
        engine.map(hang, [sys.argv[1]] * 2, workers=2)
"""


def test_interrupt_leaves_no_children(tmp_path: Path) -> None:
    script, pids = tmp_path / "job.py", tmp_path / "pids"
    script.write_text(textwrap.dedent(INTERRUPTED))
    pids.mkdir()
    command = [sys.executable, str(script), str(pids)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as job:
        while len(list(pids.iterdir())) < 2 and job.poll() is None:
            os.sched_yield()
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to the whole group
        _, errors = job.communicate(timeout=30)
    assert job.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1, errors
    assert len(list(pids.iterdir())) == 2
    assert not [p.name for p in pids.iterdir() if Path(f"/proc/{p.name}").exists()]


def test_workers_leave_interrupts_to_the_parent() -> None:
    assert engine.map(ignores_interrupts, [0], engine="local") == [True]


def test_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("from matinee import engine\nprint(engine.map(len, ['ab', 'c'], workers=1))\n")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "must start under `if __name__ == '__main__':`" in ran.stderr
