"""A log of attempts whose truth is known: two processors, one rule each, routing by a loaded coin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from matinee.domains.payments.processor_log import Fees

FEES = {"cheap": Fees(100, 50), "dear": Fees(500, 200)}
COIN = 0.7  # share that goes to "cheap"
# A few large steps instead of many small ones: fast enough for tests.
_FAST = {"leaves": 7, "trees": 30, "rate": 0.12, "min_rows": 20, "l2": 0.0}
SMALL = (("full", _FAST), ("plain", _FAST))
START = datetime(2026, 1, 5, tzinfo=UTC)


def truth(amount_minor: np.ndarray, three_d: np.ndarray, hour: np.ndarray) -> np.ndarray:
    """Chance of approval by processor: cheap likes small amounts, dear likes authenticated ones in the afternoon."""
    cheap = np.where(amount_minor < 20_000, 0.6, 0.1)
    dear = np.where(three_d & (hour >= 12), 0.8, 0.25)
    return np.column_stack([cheap, dear])


def log(rows: int, seed: int = 0, *, days: float = 10.0) -> pl.DataFrame:
    """Attempts, each its own invoice, evenly over the days."""
    rng = np.random.default_rng(seed)
    at = [START + timedelta(days=days * i / rows) for i in range(rows)]
    amount = rng.integers(2_000, 40_000, rows)
    three_d = rng.random(rows) < 0.5
    q = truth(amount, three_d, np.array([t.hour for t in at]))
    action = (rng.random(rows) >= COIN).astype(int)
    approved = rng.random(rows) < q[np.arange(rows), action]
    processor = np.array(list(FEES))[action]
    fee = [FEES[p].success_minor if a else FEES[p].failure_minor for p, a in zip(processor.tolist(), approved.tolist())]
    return pl.DataFrame(
        {
            "row": [str(i) for i in range(rows)],
            "invoice": [f"x-{i}" for i in range(rows)],
            "number": np.where(rng.random(rows) < 0.7, 1, 2),
            "processor": processor,
            "amount_minor": amount,
            "approved": approved,
            "fee_minor": fee,
            "gap_seconds": pl.Series([None] * rows, dtype=pl.Float64),
            "previous": pl.Series([None] * rows, dtype=pl.String),
            "country": "DE",
            "card": rng.choice(["Visa", "Master"], rows),
            "three_d": three_d,
            "at": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
        }
    )


HEADER = "ID,tmsp,country,amount,success,PSP,three_d,card"
FEE_TABLE = "psp,fee_success_eur,fee_failure_eur\ncheap,1,0.5\ndear,5,2\n"


def write(folder: Path, lines: list[str], name: str = "log.csv", fees: str = FEE_TABLE) -> Path:
    """A log file with a fee table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fees.csv").write_text(fees)
    (folder / name).write_text("\n".join([HEADER, *lines]) + "\n")
    return folder / name


def as_lines(attempts: pl.DataFrame) -> list[str]:
    """Attempts as lines of such a file, amounts in whole euros."""
    return [
        f"{i},{r['at']:%Y-%m-%d %H:%M:%S},Germany,{r['amount_minor'] // 100},{int(r['approved'])},{r['processor']},"
        f"{int(r['three_d'])},{r['card']}"
        for i, r in enumerate(attempts.iter_rows(named=True))
    ]
