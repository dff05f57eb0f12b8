"""Run a function over shards: in this process, in local processes, or as Ray tasks; the same results from all.

Local workers are spawned, never forked: Polars, OpenMP and BLAS keep threads that a forked child would have locks of
but no threads to release them, and it would hang. Threads multiply with workers (workers x Polars x BLAS), so each
worker is started with its share of the cores.
"""

from __future__ import annotations

import os
import pickle
import re
import reprlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from matinee.checks import must
from matinee.exceptions import MatineeError, ShardError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

S = TypeVar("S")
R = TypeVar("R")
Progress = Callable[[int, int], None]

THREAD_VARIABLES = (
    "POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
_STOP_SECONDS = 5.0
_environment = threading.Lock()


def map(
    fn: Callable[[S], R],
    shards: Sequence[S],
    *,
    engine: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[R]:
    """Apply a function to every shard and return the results in the shards' order.

    Args:
        fn: A function defined at the top level of a module, or a `functools.partial` of one: workers import it by
            name. With engine "serial" any function will do.
        shards: What it is applied to; with their results they must be picklable (they travel, they are not stored).
        engine: "serial" runs here, "local" in spawned processes, "ray" in a Ray started or joined on this machine,
            "ray://HOST:PORT" in that cluster, where the function's module must be installed.
        workers: Shards at work at one time; the cores at hand where not given, and never more than shards.
        progress: Called here as `progress(done, total)` after each shard.

    Raises:
        ShardError: When a shard fails: its number, the cause, and the traceback. The others are cancelled.
        MatineeError: If the function cannot be imported by a worker, or the engine is not known or not installed.

    Example:
        >>> map(len, ["reel", "set"], engine="serial")
        [4, 3]
    """
    shards = list(shards)
    if not engine.startswith("ray://"):
        must(engine, "engine", one_of=("local", "serial", "ray", "ray://HOST:PORT"))
    if workers is not None:
        must(workers, "workers", typ=int, ge=1)
    count = min(workers or cores(), max(len(shards), 1))
    report = progress or _silent
    if engine == "serial":
        return _serial(fn, shards, report)
    _must_be_importable(fn)
    if engine == "local":
        return _local(fn, shards, count, report)
    return _ray(fn, shards, engine, count if workers else None, report)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _silent(done: int, total: int) -> None:
    return


def _serial(fn: Callable[[S], R], shards: Sequence[S], progress: Progress) -> list[R]:
    results = []
    for i, shard in enumerate(shards):
        try:
            results.append(fn(shard))
        except Exception as error:
            raise _shard_error(i, shards, _Failure.of(error)) from error
        progress(i + 1, len(shards))
    return results


def _must_be_importable(fn: Callable[..., Any]) -> None:
    """Raise unless a fresh process finds the function by its module and name."""
    inner: Any = fn
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    module = getattr(inner, "__module__", None)
    why = ""
    if "<lambda>" in name:
        why = "a lambda has no name to import it by"
    elif "<locals>" in name:
        why = "it is defined inside another function"
    elif module == "__main__" and not getattr(sys.modules["__main__"], "__file__", None):
        why = "it is defined in an interactive session"
    if why:
        raise MatineeError(
            f"fn == {name}, must be a function at the top level of a module: {why}, and workers import it. "
            "Move it to a module (functools.partial binds arguments), or use engine='serial'"
        )


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker, as text: exceptions themselves need not survive the journey."""

    cause: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        return cls(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _shard_error(index: int, shards: Sequence[Any], failure: _Failure) -> ShardError:
    shown = reprlib.repr(shards[index])
    text = f"shard {index} of {len(shards)} ({shown}) failed, the others were cancelled: {failure.cause}"
    return ShardError(f"{text}\n\n{failure.trace}" if failure.trace else text)


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    """Set variables while children are started: they read them before any of the libraries is imported."""
    with _environment:
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def thread_share(workers: int) -> dict[str, str]:
    """The variables that give each of so many workers its share of the cores."""
    share = str(max(1, cores() // workers))
    return dict.fromkeys(THREAD_VARIABLES, share)


class _Worker:
    """A spawned process and the pipe to it. It holds one shard at a time, so it is known what a dead one worked on."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.shard: int | None = None


def _local(fn: Callable[[S], R], shards: Sequence[S], count: int, progress: Progress) -> list[R]:
    """A pool that lives for one call. Unlike the standard pools it can stop work that is running, and it says which
    shard a worker was at when it died."""
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    results: list[Any] = [None] * len(shards)
    waiting = iter(range(len(shards)))
    workers: list[_Worker] = []
    done = 0
    try:
        with _environ(thread_share(count)):
            for _ in range(count if shards else 0):
                mine, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                workers.append(_Worker(process, mine))
        for worker in workers:
            _give(worker, fn, shards, waiting)
        busy = [w for w in workers if w.shard is not None]
        while busy:
            by_pipe = {w.pipe: w for w in busy}
            for pipe in wait(list(by_pipe)):
                worker = by_pipe[pipe]  # type: ignore[index]  # wait returns what it was given
                assert worker.shard is not None
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise _died(worker, shards) from None
                if isinstance(outcome, _Failure):
                    raise _shard_error(worker.shard, shards, outcome)
                results[worker.shard] = outcome[0]
                done += 1
                progress(done, len(shards))
                _give(worker, fn, shards, waiting)
            busy = [w for w in workers if w.shard is not None]
        return results
    finally:
        _stop(workers)


def _give(worker: _Worker, fn: Callable[..., Any], shards: Sequence[Any], waiting: Iterator[int]) -> None:
    """Send the next shard to a worker that has none; mark it idle if there is no more."""
    worker.shard = next(waiting, None)
    if worker.shard is None:
        return
    try:
        message = pickle.dumps((fn, shards[worker.shard]), protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise MatineeError(
            f"shard {worker.shard} ({reprlib.repr(shards[worker.shard])}) or its function cannot be sent to a worker "
            f"({error}), must be picklable: send a path or a name and open it there"
        ) from error
    try:
        worker.pipe.send_bytes(message)
    except (BrokenPipeError, ConnectionResetError):
        raise _died(worker, shards) from None


def _died(worker: _Worker, shards: Sequence[Any]) -> ShardError:
    worker.process.join(_STOP_SECONDS)
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        cause = f"its worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    else:
        cause = (
            f"its worker ended with exit code {code}; a script that runs shards locally must start under "
            "`if __name__ == '__main__':`, because workers import it"
        )
    assert worker.shard is not None
    return _shard_error(worker.shard, shards, _Failure(cause, ""))


def _stop(workers: Sequence[_Worker]) -> None:
    """End every worker: idle ones leave when their pipe closes, busy ones are terminated. No process is left behind."""
    for worker in workers:
        worker.pipe.close()
        if worker.shard is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(_STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _work(pipe: Connection) -> None:
    """What a worker does: apply functions to shards until the pipe is closed."""
    # An interrupt from the terminal reaches the whole group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        try:
            fn, shard = pickle.loads(message)
            reply: Any = pickle.dumps((fn(shard),), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told to the caller, who raises it
            reply = pickle.dumps(_Failure.of(error))
        try:
            pipe.send_bytes(reply)
        except BrokenPipeError:
            return


def _ray(fn: Callable[[S], R], shards: Sequence[S], address: str, workers: int | None, progress: Progress) -> list[R]:
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise MatineeError(
            f"engine == {address!r} needs Ray, must be installed first: pip install matinee[ray]"
        ) from None
    if not ray.is_initialized():
        given: dict[str, Any] = {"address": address} if address.startswith("ray://") else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="error", **given)
    limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    variables = dict.fromkeys(THREAD_VARIABLES, "1")  # Ray counts one core a task
    if address == "ray":
        # Workers on this machine find what this process finds; in a cluster the code must be installed.
        variables["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    task = ray.remote(_attempt).options(num_cpus=1, max_retries=2, runtime_env={"env_vars": variables})
    results: list[Any] = [None] * len(shards)
    waiting = iter(range(len(shards)))
    running: dict[Any, int] = {}
    done = 0
    try:
        while True:
            while len(running) < limit and (i := next(waiting, None)) is not None:
                running[task.remote(fn, shards[i])] = i
            if not running:
                return results
            for reference in ray.wait(list(running), num_returns=1)[0]:
                i = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:
                    text = re.sub(r"\x1b\[\d*m", "", str(error))
                    raise _shard_error(i, shards, _Failure(type(error).__name__, text)) from None
                if isinstance(outcome, _Failure):
                    raise _shard_error(i, shards, outcome)
                results[i] = outcome[0]
                done += 1
                progress(done, len(shards))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _attempt(fn: Callable[[S], R], shard: S) -> tuple[R] | _Failure:
    """What a Ray task does; a failure comes back as text, as it does from a local worker."""
    try:
        return (fn(shard),)
    except Exception as error:  # noqa: BLE001  # told to the caller, who raises it
        return _Failure.of(error)
