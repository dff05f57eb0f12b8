"""Brings a processor's log into a studio: facts, and the choices that the log shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matinee as mt
from matinee.domains.payments import processor_log
from matinee.results import Table

Progress = Callable[..., None]


@dataclass(frozen=True)
class Imported(Table):
    """What an import did: every row is in its table or in quarantine.

    Attributes:
        facts: Rows appended and held back, by fact.
        choices: Choices logged.
        purchases: Invoices that attempts were grouped into.
        again: The same files were imported before; nothing was done.
    """

    facts: tuple[dict[str, Any], ...]
    choices: int
    purchases: int
    again: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """One row a fact, and one for the choices."""
        return [*self.facts, {"fact": "choices", "appended": self.choices, "quarantined": 0}]

    def notes(self) -> Sequence[str]:
        """What the file does not say, and what was put in its place."""
        again = ("these files were imported before; nothing was done",) if self.again else ()
        return (
            *again,
            f"{self.purchases:,} purchases: same country, amount, card and 3-D Secure flag, up to the first success",
            "propensities are estimated: shares of the processors among first attempts and among retries",
        )


def import_processor_log(
    studio: mt.Studio,
    path: Path,
    step: Progress = lambda *_a: None,
    *,
    fees: str = "",
    currency: str = "EUR",
    zone: str = "UTC",
) -> Imported:
    """Import a log of card attempts (columns ID, tmsp, country, amount, success, PSP, three_d, card) and its fees.

    The same files twice are imported once; after a crash the same call goes on where it stopped.

    Args:
        studio: Where to.
        path: The CSV, or its folder.
        step: Called with the rows done.
        fees: The fee table, where it does not stand beside the log.
        currency: ISO 4217 of amounts and fees.
        zone: Time zone of the file's times.
    """
    from matinee.store import file_digest

    log = processor_log.read(path, Path(fees) if fees else None, currency=currency, zone=zone)
    files = sorted(f for f in path.rglob("*.csv")) if path.is_dir() else [path]
    files += [Path(fees)] if fees else []
    digest = "-".join(file_digest(f)[:12] for f in files)
    key = f"import:psp-routing:{digest}:{currency}:{zone}"
    before = studio.registry.recall(key)
    if before is not None:
        return Imported(tuple(before["facts"]), before["choices"], before["purchases"], again=True)
    done = []
    for fact, frame in processor_log.facts(log):
        table = fact.schema.name
        studio.facts.fact(fact)
        mark = f"import.psp-routing.{digest}"
        if studio.tables.properties(table).get(mark) == "done":
            continue
        result = studio.facts.append(fact, frame, source=path.name, mark={mark: "done"})
        done.append({"fact": table, "appended": result.appended, "quarantined": result.quarantined})
        step(len(frame), f"importing {table}")
    step(0, "importing choices")
    logged = studio.log(processor_log.choices(log))
    purchases = int(log.attempts["invoice"].n_unique())
    studio.registry.remember(key, "import", {"facts": done, "choices": logged, "purchases": purchases})
    return Imported(tuple(done), logged, purchases)
