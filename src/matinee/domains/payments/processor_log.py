"""Reads a processor's transaction log: attempts grouped into purchases, fees, facts, and the choices that were made.

The format is a CSV of card attempts (columns ID, tmsp, country, amount, success, PSP, three_d, card) with a table of
fees an attempt beside it (psp, fee_success_eur, fee_failure_eur). Nothing says which attempts belong together: a
purchase is what has the same country, amount, card and 3-D Secure flag, with pauses of at most a minute, up to its
first success.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import matinee as mt
from matinee.domains.payments.facts import Attempt, Invoice, Processor
from matinee.exceptions import BadInputError, did_you_mean
from matinee.times import duration_us

COLUMNS = ("ID", "tmsp", "country", "amount", "success", "PSP", "three_d", "card")
PAUSE = "60s"
COUNTRIES = {"Germany": "DE", "Austria": "AT", "Switzerland": "CH"}
# Decimals of currencies that do not have two (ISO 4217).
_DECIMALS = {"JPY": 0, "KRW": 0, "CLP": 0, "VND": 0, "ISK": 0, "KWD": 3, "BHD": 3, "JOD": 3, "OMR": 3, "TND": 3}
_STAMP = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Fees:
    """What a processor takes for an attempt, in minor units."""

    success_minor: int
    failure_minor: int


@dataclass(frozen=True)
class ProcessorLog:
    """Attempts of one file, in order of time.

    Attributes:
        name: Name of the file, the first part of invoice and choice ids.
        currency: ISO 4217; amounts and fees are in its minor units.
        fees: By processor.
        attempts: One row an attempt, in the order of the file's times: `row` (its id in the file), `invoice`,
            `number`, `processor`, `amount_minor`, `approved`, `fee_minor`, `gap_seconds`, `previous`, `country`,
            `card`, `three_d`, `at`, and `usable`: False where a value of the file could not be read.
    """

    name: str
    currency: str
    fees: Mapping[str, Fees]
    attempts: pl.DataFrame

    @property
    def processors(self) -> list[str]:
        """Names of the processors, in the order of the fee table."""
        return list(self.fees)

    @property
    def usable(self) -> pl.DataFrame:
        """The attempts of which every value could be read."""
        return self.attempts.filter(pl.col("usable")).drop("usable")


def read(
    path: Path | str,
    fees: Path | str | None = None,
    *,
    currency: str = "EUR",
    zone: str = "UTC",
    pause: str = PAUSE,
) -> ProcessorLog:
    """Read a log of attempts and its fees.

    Times have no zone in the file: `zone` says which one they are in. Amounts are taken to be in the fees' currency.
    A value that cannot be read becomes null and its row goes on, so that the fact store can quarantine it by name.

    Args:
        path: The CSV of attempts, or a folder that holds it and a file whose name begins with "fees".
        fees: The fee table; the one beside the log where not given.
        currency: ISO 4217.
        zone: Time zone of the times in the file.
        pause: Longest pause between two attempts of one purchase.

    Raises:
        BadInputError: If files or columns are missing, or a processor has no fees.
    """
    log, table = _locate(Path(path), None if fees is None else Path(fees))
    costs = read_fees(table, currency)
    raw = pl.read_csv(log, infer_schema=False, truncate_ragged_lines=True)
    for column in COLUMNS:
        if column not in raw.columns:
            raise BadInputError(
                f"column {column!r} is missing from {log.name}, must be there; it has {', '.join(raw.columns)}"
                f"{did_you_mean(column, raw.columns)}"
            )
    attempts = _purchases(_typed(raw, currency, zone), log.stem, duration_us(pause))
    unknown = [p for p in attempts["processor"].drop_nulls().unique().sort().to_list() if p not in costs]
    if unknown:
        raise BadInputError(f"processor {unknown[0]!r} has no fees in {table.name}, must be one of {', '.join(costs)}")
    fee = pl.DataFrame(
        {
            "processor": list(costs),
            "_success": [f.success_minor for f in costs.values()],
            "_failure": [f.failure_minor for f in costs.values()],
        }
    )
    attempts = (
        attempts.join(fee, on="processor", how="left", maintain_order="left")
        .with_columns(fee_minor=pl.when("approved").then("_success").otherwise("_failure"))
        .drop("_success", "_failure")
    )
    return ProcessorLog(log.stem, currency, costs, attempts)


def read_fees(path: Path, currency: str = "EUR") -> dict[str, Fees]:
    """Fees by processor, in minor units, from a CSV with the columns psp, fee_success_CUR, fee_failure_CUR."""
    table = pl.read_csv(path)
    names = ("psp", f"fee_success_{currency.lower()}", f"fee_failure_{currency.lower()}")
    for column in names:
        if column not in table.columns:
            raise BadInputError(
                f"column {column!r} is missing from {path.name}, must be there; it has {', '.join(table.columns)}"
                f"{did_you_mean(column, table.columns)}"
            )
    factor = 10 ** _DECIMALS.get(currency, 2)
    found = {}
    for name, success, failure in table.select(names).iter_rows():
        found[str(name)] = Fees(round(float(success) * factor), round(float(failure) * factor))
    return found


def facts(log: ProcessorLog) -> Iterator[tuple[type[mt.Fact], pl.DataFrame]]:
    """Processors, invoices (one a purchase) and attempts, as frames of their facts; each attempt tied to its choice."""
    attempts = log.attempts
    start = attempts["at"].min()
    yield (
        Processor,
        pl.DataFrame(
            {
                "processor": log.processors,
                "fee_success_minor": [f.success_minor for f in log.fees.values()],
                "fee_failure_minor": [f.failure_minor for f in log.fees.values()],
                "currency": [log.currency] * len(log.fees),
            }
        ).with_columns(at=pl.lit(start, _STAMP), known=pl.lit(start, _STAMP)),
    )
    invoices = (
        attempts.sort("invoice", "number")
        .unique("invoice", keep="first", maintain_order=True)
        .select("invoice", "amount_minor", "country", "card", "three_d", "at", known="at")
        .with_columns(currency=pl.lit(log.currency))
    )
    yield Invoice, invoices
    yield (
        Attempt,
        attempts.select(
            "invoice", "number", "processor", "amount_minor", pl.lit(log.currency).alias("currency"), "approved",
            "fee_minor", "gap_seconds", "previous", pl.col("at") + pl.duration(microseconds=1),
            (pl.col("at") + pl.duration(microseconds=1)).alias("known"), _choice_id(log.name).alias("choice"),
        ),
    )  # fmt: skip


def propensities(attempts: pl.DataFrame, processors: list[str]) -> dict[bool, dict[str, float]]:
    """Share of each processor among first attempts (True) and among retries (False).

    The log names no probabilities. Routing was found to depend on whether an attempt is the first one and, beyond
    that, on nothing that is recorded; so these shares are the estimate. Given one log they may weigh another.
    """
    found: dict[bool, dict[str, float]] = {}
    for first in (True, False):
        part = attempts.filter((pl.col("number") == 1) == first)["processor"]
        shares = dict(part.value_counts(normalize=True).iter_rows()) if len(part) else {}
        found[first] = {p: float(shares.get(p, 0.0)) for p in processors}
    return found


def choices(
    log: ProcessorLog, shares: Mapping[bool, Mapping[str, float]] | None = None, *, decision: str = "route"
) -> Iterator[mt.Choice]:
    """The routing choices that the log shows, with estimated propensities; clustered by purchase.

    Args:
        log: What was read.
        shares: Probabilities of each processor for first attempts and retries; estimated from this log if not given.
        decision: Name of the decision.
    """
    chance = shares or propensities(log.usable, log.processors)
    context = ("amount_minor", "country", "card", "three_d", "number", "gap_seconds", "previous")
    for row in log.usable.with_columns(_id=_choice_id(log.name)).iter_rows(named=True):
        processor: str = row["processor"]
        yield mt.Choice(
            id=row["_id"],
            decision=decision,
            unit=row["invoice"],
            at=row["at"],
            policy=f"logged in {log.name}",
            context={"currency": log.currency, **{k: row[k] for k in context if row[k] is not None}},
            candidates=list(log.processors),
            action=[processor],
            propensities=[chance[row["number"] == 1][processor]],
            estimated=True,
            cluster=row["invoice"],
        )


def _choice_id(name: str) -> pl.Expr:
    return pl.format("{}-{}", pl.lit(name), pl.col("row"))


def _locate(path: Path, fees: Path | None) -> tuple[Path, Path]:
    if path.is_dir():
        tables = sorted(path.glob("*.csv"))
        logs = [p for p in tables if not p.name.startswith("fees")]
        if len(logs) != 1:
            listed = ", ".join(p.name for p in tables) or "no CSV file"
            raise BadInputError(
                f"{path.name}/ holds {listed}, must hold one log of attempts beside fees.csv; or name the file"
            )
        path = logs[0]
    if not path.is_file():
        raise BadInputError(f"path == {str(path)!r}, must be a CSV file of attempts or its folder")
    if fees is None:
        beside = sorted(path.parent.glob("fees*.csv"))
        if not beside:
            raise BadInputError(f"no fees*.csv stands beside {path.name}, must be given: fees=FILE")
        fees = beside[0]
    if not fees.is_file():
        raise BadInputError(f"fees == {str(fees)!r}, must be a CSV file")
    return path, fees


def _typed(raw: pl.DataFrame, currency: str, zone: str) -> pl.DataFrame:
    flag = {"0": False, "1": True, "false": False, "true": True}
    factor = 10 ** _DECIMALS.get(currency, 2)
    when = (
        pl.col("tmsp")
        .str.strip_chars()
        .str.replace("T", " ")
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    )
    text = {c: pl.col(c).str.strip_chars().replace("", None) for c in ("country", "card", "PSP")}
    return raw.select(
        pl.col("ID").alias("row"),
        # An hour that the clock skips in spring becomes null and is quarantined; one that it repeats is the first.
        when.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
        .alias("at"),
        text["country"].replace(COUNTRIES).alias("country"),
        (pl.col("amount").str.strip_chars().cast(pl.Float64, strict=False) * factor)
        .round()
        .cast(pl.Int64, strict=False)
        .alias("amount_minor"),
        pl.col("success")
        .str.to_lowercase()
        .replace_strict(flag, default=None, return_dtype=pl.Boolean)
        .alias("approved"),
        text["PSP"].alias("processor"),
        pl.col("three_d")
        .str.to_lowercase()
        .replace_strict(flag, default=None, return_dtype=pl.Boolean)
        .alias("three_d"),
        text["card"].alias("card"),
    )


def _purchases(rows: pl.DataFrame, name: str, pause_us: int) -> pl.DataFrame:
    """Group attempts into purchases and number them; a row that cannot be read stands alone."""
    same = ["country", "amount_minor", "card", "three_d"]
    needed = [*same, "at", "approved", "processor"]
    rows = rows.with_row_index("_order").with_columns(
        usable=pl.all_horizontal(pl.col(c).is_not_null() for c in needed),
    )
    # Rows that cannot be read come last: they must not stand between two attempts of one purchase.
    rows = rows.sort(~pl.col("usable"), *same, "at", "_order", nulls_last=True, maintain_order=True)
    group = ["usable", *same]
    gap = (pl.col("at") - pl.col("at").shift(1).over(group)).dt.total_microseconds()
    before = pl.col("approved").shift(1).over(group)
    fresh = gap.is_null() | (gap > pause_us) | before.fill_null(value=True) | ~pl.col("usable")
    rows = rows.with_columns(_gap=gap, _fresh=fresh).with_columns(_purchase=pl.col("_fresh").cum_sum())
    rows = rows.with_columns(
        number=pl.int_range(1, pl.len() + 1).over("_purchase"),
        gap_seconds=pl.when(~pl.col("_fresh")).then(pl.col("_gap") / 1e6),
        previous=pl.col("processor").shift(1).over("_purchase"),
        # Attempts of one second keep the file's order: each is two microseconds after the one before it, so that a
        # choice stands after the answer to the attempt before it and before its own.
        _tie=pl.int_range(pl.len()).over("_purchase", "at"),
        _first=pl.col("_order").min().over("_purchase"),
    )
    rows = rows.with_columns(
        at=pl.col("at") + pl.duration(microseconds=2 * pl.col("_tie")),
        invoice=pl.format("{}-{}", pl.lit(name), (pl.col("_first").rank("dense")).cast(pl.String).str.zfill(7)),
    )
    return rows.sort("at", "_order", nulls_last=True).select(
        "row", "invoice", "number", "processor", "amount_minor", "approved", "gap_seconds", "previous", "country",
        "card", "three_d", "at", "usable",
    )  # fmt: skip


def to_json(log: ProcessorLog) -> dict[str, Any]:
    """What was read, in short: for the import's report."""
    usable = log.usable
    return {
        "attempts": len(log.attempts),
        "purchases": log.attempts["invoice"].n_unique(),
        "unreadable": len(log.attempts) - len(usable),
        "processors": log.processors,
    }
