"""The inner loops of the batch plan: plain functions over NumPy arrays, compiled by Numba for large inputs.

Rows of one key are a group: `order[offsets[k]:offsets[k + 1]]` are the positions of key k's rows. Labels are grouped
the same way and sorted by time, so that each loop walks rows and labels side by side and needs no search. Arrays that
a loop writes are named `..._out`. The loops run with and without the compiler: loading it costs more than a few
thousand rows do. They release the interpreter's lock, so buckets run side by side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]

SMALL = 20_000  # rows in all that are interpreted before the compiler is worth loading
TINY = 1_000  # calls with fewer rows do not count: a process that looks up one key at a time never needs the compiler
MAX_SHIFTS = 8  # moves a row of insertion sort may cost on average before merge sort takes over
_interpreted = 0


def fast(kernel: F, rows: int) -> F:
    """The kernel itself while a process has few rows in all, compiled (and cached on disk) from then on."""
    global _interpreted
    _interpreted += rows if rows >= TINY else 0
    return kernel if _interpreted < SMALL else _compiled(kernel)  # type: ignore[return-value]  # the same, compiled


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    import numba

    try:
        done = numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # no folder to cache in: compiled anew in each process
        done = numba.njit(nogil=True)(kernel)
    written = [name.endswith("_out") for name in inspect.signature(kernel).parameters]

    @wraps(kernel)
    def call(*given: Any) -> Any:
        # Frames hand out read-only arrays, NumPy writable ones: compiled apart unless all inputs are read-only.
        return done(*(g if w or not isinstance(g, np.ndarray) else _read_only(g) for g, w in zip(given, written)))

    return call


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view


def group_rows(code: Ints, keys: int) -> tuple[Ints, Ints]:
    """Offsets (keys + 1,) and positions grouped by code, in their given order; negative codes are left out."""
    offsets = np.zeros(keys + 1, np.int64)
    for i in range(code.size):
        if code[i] >= 0:
            offsets[code[i] + 1] += 1
    for k in range(keys):
        offsets[k + 1] += offsets[k]
    place = offsets.copy()
    order = np.empty(offsets[keys], np.int64)
    for i in range(code.size):
        k = code[i]
        if k >= 0:
            order[place[k]] = i
            place[k] += 1
    return offsets, order


def sort_groups(offsets: Ints, first: Ints, second: Ints, third: Ints, order_out: Ints) -> None:
    """Sorts each group by (first, second, third), in place, ties in their given order.

    Rows come nearly in order (as they were appended), so insertion sort goes first. It gives up for a merge of runs:
    rows of several files are a few runs, each in order.
    """
    merged = runs = np.empty(0, np.int64)
    for k in range(offsets.size - 1):
        lo, hi = offsets[k], offsets[k + 1]
        left = MAX_SHIFTS * (hi - lo)
        for i in range(lo + 1, hi):
            r = order_out[i]
            j = i - 1
            while j >= lo:
                q = order_out[j]
                if first[q] < first[r] or (
                    first[q] == first[r]
                    and (second[q] < second[r] or (second[q] == second[r] and third[q] <= third[r]))
                ):
                    break
                order_out[j + 1] = q
                j -= 1
            order_out[j + 1] = r
            left -= i - 1 - j
            if left < 0:
                break
        if left >= 0:
            continue
        if merged.size < order_out.size:
            merged, runs = np.empty(order_out.size, np.int64), np.empty(order_out.size + 1, np.int64)
        count = 1
        runs[0] = lo
        for i in range(lo + 1, hi):
            q, r = order_out[i - 1], order_out[i]
            if first[q] > first[r] or (
                first[q] == first[r] and (second[q] > second[r] or (second[q] == second[r] and third[q] > third[r]))
            ):
                runs[count] = i
                count += 1
        runs[count] = hi
        while count > 1:
            kept = 0
            for s in range(0, count, 2):
                i, middle = runs[s], runs[s + 1]
                j, stop = middle, runs[min(s + 2, count)]
                for m in range(i, stop):
                    if j == stop:
                        left_next = True
                    elif i == middle:
                        left_next = False
                    else:
                        q, r = order_out[i], order_out[j]
                        left_next = first[q] < first[r] or (
                            first[q] == first[r]
                            and (second[q] < second[r] or (second[q] == second[r] and third[q] <= third[r]))
                        )
                    if left_next:
                        merged[m] = order_out[i]
                        i += 1
                    else:
                        merged[m] = order_out[j]
                        j += 1
                runs[kept] = runs[s]
                kept += 1
            runs[kept] = hi
            count = kept
            for m in range(lo, hi):
                order_out[m] = merged[m]


def window_sums(
    offsets: Ints, by_v: Ints, by_at: Ints, v: Ints, at: Ints, x: Numbers,
    window: int, label_offsets: Ints, labels: Ints, t: Ints, total_out: Numbers, rows_out: Ints,
) -> None:  # fmt: skip
    """W(t) = K(t) - A(t - w) for each label: the sum of x, and how many rows are in the window.

    K adds x in order of v over rows with v <= t, A in order of `at` over rows with at < t - w. Rows later than the
    window (v - at > w) are dropped from both: while they are visible they have left it. An empty window is exactly 0.
    """
    for k in range(offsets.size - 1):
        i = j = offsets[k]
        hi = offsets[k + 1]
        known, past = x.dtype.type(0), x.dtype.type(0)
        rows = 0
        for m in range(label_offsets[k], label_offsets[k + 1]):
            label = labels[m]
            while i < hi and v[by_v[i]] <= t[label]:
                r = by_v[i]
                if v[r] - at[r] <= window:
                    known += x[r]
                    rows += 1
                i += 1
            while j < hi and at[by_at[j]] < t[label] - window:
                r = by_at[j]
                if v[r] - at[r] <= window:
                    past += x[r]
                    rows -= 1
                j += 1
            rows_out[label] = rows
            if rows > 0:
                total_out[label] = known - past


def last_rows(
    offsets: Ints, by_v: Ints, v: Ints, at: Ints, known: Ints, seq: Ints, label_offsets: Ints, labels: Ints, t: Ints,
    found_out: Ints,
) -> None:  # fmt: skip
    """For each label, the position of the latest visible row by (at, known, seq), or -1."""
    for k in range(offsets.size - 1):
        i, best = offsets[k], -1
        for m in range(label_offsets[k], label_offsets[k + 1]):
            label = labels[m]
            while i < offsets[k + 1] and v[by_v[i]] <= t[label]:
                r = by_v[i]
                if (
                    best < 0
                    or at[r] > at[best]
                    or (
                        at[r] == at[best]
                        and (known[r] > known[best] or (known[r] == known[best] and seq[r] >= seq[best]))
                    )
                ):
                    best = r
                i += 1
            found_out[label] = best


def history_rows(
    offsets: Ints, by_age: Ints, v: Ints, at: Ints, is_state: bool, label_offsets: Ints, labels: Ints, t: Ints,
    found_out: Ints,
) -> None:  # fmt: skip
    """For each label the positions of the last n visible rows, oldest first: shape (labels, n), -1 to the left."""
    for k in range(offsets.size - 1):
        stop = offsets[k]
        for m in range(label_offsets[k], label_offsets[k + 1]):
            label = labels[m]
            while stop < offsets[k + 1] and (is_state or at[by_age[stop]] <= t[label]):
                stop += 1
            i, free = stop, found_out.shape[1]
            while i > offsets[k] and free > 0:
                i -= 1
                if v[by_age[i]] <= t[label]:
                    free -= 1
                    found_out[label, free] = by_age[i]


def window_spans(
    offsets: Ints, by_at: Ints, at: Ints, window: int, label_offsets: Ints, labels: Ints, t: Ints,
    start_out: Ints, stop_out: Ints,
) -> None:  # fmt: skip
    """Where each label's window [t - w, t] starts and stops in `by_at`, whether or not its rows are visible yet."""
    for k in range(offsets.size - 1):
        i = j = offsets[k]
        for m in range(label_offsets[k], label_offsets[k + 1]):
            label = labels[m]
            while i < offsets[k + 1] and at[by_at[i]] < t[label] - window:
                i += 1
            while j < offsets[k + 1] and at[by_at[j]] <= t[label]:
                j += 1
            start_out[label], stop_out[label] = i, j


def window_values(
    by_at: Ints, v: Ints, value: Ints, sign: Ints, values: int, start: Ints, stop: Ints, t: Ints, place: Ints,
    found_out: Ints, times_out: Ints, sizes_out: Ints,
) -> None:  # fmt: skip
    """The values (as codes) in each label's window with their counts, sorted by code, from `place[label]` on.

    A value whose count is 0, all taken back, is left out.
    """
    tally = np.zeros(values, np.int64)
    for label in range(t.size):
        n, begin = 0, place[label]
        for i in range(start[label], stop[label]):
            r = by_at[i]
            if v[r] <= t[label] and value[r] >= 0:
                if tally[value[r]] == 0:
                    j = begin + n
                    while j > begin and found_out[j - 1] > value[r]:
                        found_out[j] = found_out[j - 1]
                        j -= 1
                    found_out[j] = value[r]
                    n += 1
                tally[value[r]] += sign[r]
        kept = 0
        for i in range(n):
            code = found_out[begin + i]
            if tally[code] != 0:
                found_out[begin + kept], times_out[begin + kept] = code, tally[code]
                kept += 1
            tally[code] = 0
        sizes_out[label] = kept


def sum_spans(order: Ints, x: Numbers, start: Ints, stop: Ints, total_out: Numbers) -> None:
    """The sum of x[order[start:stop]] for each span, added one by one from the left, as the online state adds."""
    for k in range(start.size):
        for i in range(start[k], stop[k]):
            total_out[k] += x[order[i]]
