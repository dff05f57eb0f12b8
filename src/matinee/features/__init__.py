"""Features: last, count, sum, mean, rate, recency over windows, joins, plain functions; batch and online from one."""

from __future__ import annotations

from matinee.features.declare import (
    apply,
    count,
    counts,
    history,
    last,
    mean,
    nightly,
    rate,
    recency,
    state,
    sum,
)
from matinee.features.definition import Features
from matinee.features.nodes import Aggregate, Arithmetic, Constant, Node
from matinee.features.source import MemorySource, ParquetSource, Source

__all__ = [
    "Aggregate",
    "Arithmetic",
    "Constant",
    "Features",
    "MemorySource",
    "Node",
    "ParquetSource",
    "Source",
    "apply",
    "count",
    "counts",
    "history",
    "last",
    "mean",
    "nightly",
    "rate",
    "recency",
    "state",
    "sum",
]
