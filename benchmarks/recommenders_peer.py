"""Peers of `benchmarks.strong_generalization`: implicit and RecTools, run by an interpreter that has them.

    python recommenders_peer.py IN.npz OUT_FOLDER

IN.npz holds plays as rows of a sparse matrix (`train_items`, `train_offsets`, and the same for `validation` and `test`,
which are given at the time of asking only), `titles` and `k`. For every system and setting OUT_FOLDER gets NUMBER.npz
with the lists of both (`validation`, `test`; shape (members, k)), and `index.json` says what each number is, and what
it took. Stands alone: implicit and RecTools live in an environment of their own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

Matrix = Any
Scores = Callable[[Matrix], np.ndarray]
ALS = [(64, 2.0, 1.0), (128, 5.0, 5.0), (128, 5.0, 30.0), (256, 5.0, 30.0)]  # factors, alpha, regularisation


def implicit_als(train: Matrix) -> Iterator[tuple[str, Callable[[], Scores]]]:
    """Alternating least squares over a few settings; members are folded in."""
    from implicit.cpu.als import AlternatingLeastSquares

    for factors, alpha, regularization in ALS:

        def fit(factors: int = factors, alpha: float = alpha, regularization: float = regularization) -> Scores:
            model = AlternatingLeastSquares(
                factors=factors,
                alpha=alpha,
                regularization=regularization,
                iterations=15,
                random_state=0,
                num_threads=1,
            )
            model.fit(train, show_progress=False)
            return lambda given: np.asarray(
                model.recalculate_user(np.arange(given.shape[0]), given) @ model.item_factors.T
            )

        yield f"factors {factors}, alpha {alpha:g}, regularisation {regularization:g}", fit


def rectools_ease(train: Matrix) -> Iterator[tuple[str, Callable[[], Scores]]]:
    """RecTools' closed form, with its weights applied to members it has not seen."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import EASEModel

    rows = train.tocoo()
    events = pd.DataFrame(
        {
            Columns.User: rows.row,
            Columns.Item: rows.col,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01"),
        }
    )
    for ridge in (300.0, 500.0, 1000.0):

        def fit(ridge: float = ridge) -> Scores:
            dataset = Dataset.construct(events)
            model = EASEModel(regularization=ridge).fit(dataset)
            place = dataset.item_id_map.convert_to_internal(np.arange(train.shape[1]))
            weight = np.asarray(model.weight)[np.ix_(place, place)]
            return lambda given: np.asarray(given @ weight)

        yield f"ridge {ridge:g}", fit


SYSTEMS = {"implicit ALS": implicit_als, "RecTools EASE": rectools_ease}


def lists(scores: np.ndarray, given: Matrix, k: int) -> np.ndarray:
    """The k best columns not given, best first."""
    scores = np.array(scores, np.float32)
    scores[given.nonzero()] = -np.inf
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def main() -> None:
    """Fit all that is installed, and write what it recommends."""
    source, folder = np.load(sys.argv[1]), Path(sys.argv[2])
    titles, k = int(source["titles"]), int(source["k"])

    def matrix(name: str) -> Matrix:
        items, offsets = source[f"{name}_items"], source[f"{name}_offsets"]
        made = sp.csr_matrix((np.ones(len(items), np.float32), items, offsets), (len(offsets) - 1, titles))
        made.sum_duplicates()
        made.data[:] = 1.0
        return made

    train, asked = matrix("train"), {name: matrix(name) for name in ("validation", "test")}
    index: list[dict[str, Any]] = []
    for system, settings in SYSTEMS.items():
        try:
            for said, fit in settings(train):
                begun, cpu = time.perf_counter(), time.process_time()
                scores = fit()
                seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
                found = {name: lists(scores(given), given, min(k, titles)) for name, given in asked.items()}
                np.savez(folder / f"{len(index)}.npz", **found)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
                cost = {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}
                index.append({"system": system, "settings": said, "file": f"{len(index)}.npz", "cost": cost})
        except ImportError as error:
            index.append({"system": system, "absent": f"{error.name} is not installed"})
    (folder / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
