"""Routing: through which processor to charge. The decision, its scorers, how they are trained, and its back-test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.domains.payments.charging import MARGIN, charge, most_attempts, paid, refused_for_good, situation, stopped
from matinee.domains.payments.facts import Attempt, Invoice, Processor
from matinee.domains.payments.routing_columns import payment
from matinee.domains.payments.routing_model import FEWEST, RoutingModel
from matinee.exceptions import StorageError
from matinee.results import Table
from matinee.scorers import register

if TYPE_CHECKING:
    import polars as pl

    from matinee.domains.payments.processor_log import Fees

Array = np.ndarray[Any, Any]
Progress = Callable[..., None]
EXPLORED = 0.05  # share of attempts that go to a random processor, so that the log stays worth learning from


def _switched_off(request: mt.Request, candidates: mt.Candidates) -> Array:
    active = candidates.columns.get("active")
    return np.zeros(len(candidates), np.bool_) if active is None else np.asarray(active == 0)


def route_decision(margin: float = MARGIN) -> mt.Decision:
    """The routing decision for a service that keeps `margin` of an amount before fees."""
    return mt.Decision(
        "route",
        title="Payment routing",
        unit="invoice",
        among="processor",
        reward=margin * mt.sum(Attempt.amount_minor, within="10m", where=Attempt.approved)
        - mt.sum(Attempt.fee_minor, within="10m"),
        reward_unit="minor units",
        guards=[
            mt.never("processor switched off", _switched_off),
            paid(),
            stopped(),
            refused_for_good(),
            most_attempts(),
        ],
        description="The processor through which an attempt is made",
    )


route = route_decision()


@register
@dataclass(repr=False)
class ExpectedNet:
    """What an attempt through each processor is worth: q (margin * amount - fee) - (1 - q) fee, in minor units.

    Attributes:
        model: Chances of approval.
        margin: Share of the amount that the service keeps before fees.
        usual: Chance of approval of a processor that the model does not know: the mean over those it knows.
        name: Name and version in the studio.
    """

    kind: ClassVar[str] = "payments-expected-net"
    model: RoutingModel = field(default_factory=RoutingModel)
    margin: float = MARGIN
    usual: float = 0.5
    name: str = ""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The state of the invoice."""
        return (charge,)

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        """Expected net value of an attempt through each candidate, minor units."""
        known = situation(request)
        success, failure = _worth(float(known["amount_minor"]), self.margin, candidates)
        q = self.chances(request, candidates)
        return mt.Scores(q * success + (1 - q) * failure)

    def chances(self, request: mt.Request, candidates: mt.Candidates) -> Array:
        """Chance of approval through each candidate, shape (candidates,)."""
        known = self.model.predict(payment(situation(request), request.at))[0]
        index = {name: i for i, name in enumerate(self.model.processors)}
        at = [index.get(str(one), -1) for one in candidates.ids.tolist()]
        return np.array([self.usual if i < 0 else known[i] for i in at], np.float64)

    def explain(self, request: mt.Request, candidates: mt.Candidates, index: int) -> dict[str, float]:
        """What a score is made of, minor units: what approval is expected to bring, and what a decline is to cost."""
        success, failure = _worth(float(situation(request)["amount_minor"]), self.margin, candidates)
        q = float(self.chances(request, candidates)[index])
        return {"if approved": q * float(success[index]), "if declined": (1 - q) * float(failure[index])}

    def save(self, folder: Path) -> None:
        """Write the model and the margin."""
        self.model.save(folder / "approval")
        (folder / "net.json").write_text(json.dumps({"margin": self.margin, "usual": self.usual}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        about = _read(folder / "net.json")
        return cls(RoutingModel.load(folder / "approval"), about["margin"], about["usual"])

    def __repr__(self) -> str:
        return f"ExpectedNet({self.name or 'not kept'}, margin={self.margin:g})"


@register
@dataclass(repr=False)
class AverageNet:
    """What an attempt through each processor was worth on average: the baseline, one processor for everything.

    Attributes:
        rates: Share of attempts approved, by processor.
        margin: Share of the amount that the service keeps before fees.
        amount_minor: The mean amount: what one processor is best for, it is best for always.
        name: Name and version in the studio.
    """

    kind: ClassVar[str] = "payments-average-net"
    rates: dict[str, float] = field(default_factory=dict)
    margin: float = MARGIN
    amount_minor: float = 0.0
    name: str = ""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """Nothing."""
        return ()

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        """Mean net value through each candidate, minor units; a processor never tried counts as the worst."""
        success, failure = _worth(self.amount_minor, self.margin, candidates)
        least = min(self.rates.values(), default=0.0)
        q = np.array([self.rates.get(str(one), least) for one in candidates.ids.tolist()])
        return mt.Scores(q * success + (1 - q) * failure)

    def save(self, folder: Path) -> None:
        """Write the rates."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {"rates": self.rates, "margin": self.margin, "amount_minor": self.amount_minor}
        (folder / "average.json").write_text(json.dumps(about))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**_read(folder / "average.json"))

    def __repr__(self) -> str:
        return f"AverageNet({self.name or 'not kept'})"


def _worth(amount_minor: float, margin: float, candidates: mt.Candidates) -> tuple[Array, Array]:
    """Value of success and of failure through each candidate, minor units."""
    columns = candidates.columns
    for name in ("fee_success_minor", "fee_failure_minor"):
        if name not in columns:
            raise mt.MatineeError(f"candidates have no column {name!r}, must be processors with their fees")
    return margin * amount_minor - columns["fee_success_minor"], -columns["fee_failure_minor"]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise StorageError(f"{path.name} is missing from the model; train it again") from None
    except ValueError:
        raise StorageError(f"{path.name} is cut short or damaged; train the model again") from None


def history(source: Any) -> tuple[pl.DataFrame, dict[str, Fees]]:
    """Attempts with what was known of their invoices, in order of time, and the processors' fees.

    Args:
        source: The studio's facts, pinned or not.
    """
    import polars as pl

    from matinee.domains.payments.processor_log import Fees

    newest = ["at", "known", "seq"]
    invoices = source.scan(Invoice).sort(newest).group_by("invoice", maintain_order=True).last()
    attempts = (
        source.scan(Attempt)
        .join(invoices.select("invoice", "country", "card", "debit", "three_d"), on="invoice", how="left")
        .sort("at", "seq")
        .collect()
    )
    if attempts.is_empty():
        raise mt.MatineeError(
            "there are no attempts yet, must have some to learn from: append some, or `matinee import psp-routing DIR`"
        )
    processors = (
        source.scan(Processor)
        .sort(newest)
        .group_by("processor", maintain_order=True)
        .last()
        .sort("processor")
        .collect()
    )
    fees = {
        name: Fees(success, failure)
        for name, success, failure in processors.select(
            "processor", "fee_success_minor", "fee_failure_minor"
        ).iter_rows()
    }
    attempts = attempts.filter(pl.col("processor").is_in(list(fees)))
    counts = dict(attempts["processor"].value_counts().iter_rows())
    enough = {name: fee for name, fee in fees.items() if counts.get(name, 0) >= FEWEST}
    if len(enough) < 2:
        listed = ", ".join(f"{n} {counts.get(n, 0)}" for n in fees) or "none"
        raise mt.MatineeError(
            f"attempts by processor are {listed}, must be at least {FEWEST} of two processors to learn which is better"
        )
    return attempts.filter(pl.col("processor").is_in(list(enough))), enough


def train(
    studio: mt.Studio,
    step: Progress = lambda *_a: None,
    *,
    margin: float = MARGIN,
    learner: RoutingModel | None = None,
) -> list[str]:
    """Learn chances of approval, keep the last third of the days for evidence, then learn once more from all of them.

    The first two policies learned from the first two thirds of the days: `studio.evaluate` judges them on the rest. The
    third is the second learned again on everything. Nothing that was logged can judge that one: what the second was
    found to be worth speaks for the way in which both were made, and its own trial for itself.

    Returns:
        Names of the policies: the best single processor (the baseline), the learned one, and the same on everything.

    Raises:
        MatineeError: If there are too few attempts.
    """
    step(1, "reading attempts")
    attempts, fees = history(studio.facts)
    cut = last_third(attempts)
    before = attempts.filter(attempts["at"] < cut)
    counts = dict(before["processor"].value_counts().iter_rows())
    scarce = [name for name in fees if counts.get(name, 0) < FEWEST]
    if scarce:
        raise mt.MatineeError(
            f"processor {scarce[0]!r} has {counts.get(scarce[0], 0)} attempts in the first two thirds of the days, must "
            f"have at least {FEWEST}: the last third is kept to judge on"
        )
    average, net = _learned(before, fees, margin, learner or RoutingModel(), step)
    _keep(studio, "route-average", average, before, "mean by processor", {})
    _keep(studio, "route-net", net, before, LEARNER, _about(net))
    since = f"{cut:%Y-%m-%d}"
    names = [
        studio.save_policy(
            "route", mt.Epsilon(average, EXPLORED),
            note=f"the best single processor, learned before {since}: to be judged on what came later",
        ),
        studio.save_policy(
            "route", mt.Epsilon(net, EXPLORED),
            note=f"largest expected net value, learned before {since}: to be judged on what came later",
        ),
    ]  # fmt: skip
    # What was worth reading was found out above, on the part that may be tuned on.
    again = RoutingModel(net.model.columns.extras, net.model.settings, net.model.variants)
    _, everything = _learned(attempts, fees, margin, again, step)
    _keep(studio, "route-net", everything, attempts, LEARNER, _about(everything))
    return [
        *names,
        studio.save_policy(
            "route", mt.Epsilon(everything, EXPLORED),
            note=f"{names[1]} learned again on all days: nothing that is logged can judge it, release it to a share "
            "and read its trial",
        ),
    ]  # fmt: skip


LEARNER = "boosted trees by processor with a drift filter"


def last_third(attempts: pl.DataFrame) -> datetime:
    """Midnight at which the last third of the days begins.

    Raises:
        MatineeError: If there are fewer than three days.
    """
    first = attempts["at"].dt.truncate("1d").min()
    days = (attempts["at"].dt.truncate("1d").max() - first).days + 1  # type: ignore[operator, union-attr]  # times
    if days < 3:
        raise mt.MatineeError(
            f"the attempts are of {days} days, must be of at least 3: the last third is kept to judge on"
        )
    return first + timedelta(days=round(2 / 3 * days))  # type: ignore[operator, return-value]  # times


def _learned(
    attempts: pl.DataFrame, fees: Mapping[str, Fees], margin: float, learner: RoutingModel, step: Progress
) -> tuple[AverageNet, ExpectedNet]:
    """The baseline and the model's scorer, from these attempts alone."""
    rates = {
        str(name): float(rate)
        for name, rate in attempts.group_by("processor").agg(rate=attempts_rate()).sort("processor").iter_rows()
    }
    amount = float(attempts["amount_minor"].cast(float).mean() or 0.0)  # type: ignore[arg-type]  # a float column
    model = learner.fit(attempts, list(fees), progress=step)
    return AverageNet(rates, margin, amount), ExpectedNet(model, margin, float(model.crossfitted.mean()))


def _about(net: ExpectedNet) -> dict[str, Any]:
    return {"columns": list(net.model.columns.to_json()["extras"]), "margin": net.margin}


def _keep(
    studio: mt.Studio, name: str, scorer: Any, attempts: pl.DataFrame, learner: str, about: Mapping[str, Any]
) -> None:
    # Invoices name a member: whoever else is asked for consent, for routing a payment nobody is.
    source = studio.source("route")
    for fact in (Attempt, Invoice, Processor):
        source.snapshot(fact)
    studio.keep(
        name, scorer, facts=source,
        record={"learner": learner, "rows": len(attempts), "decision": "route", **about},
        learned_until=attempts["at"].max(),  # type: ignore[arg-type]  # a column of times
    )  # fmt: skip


def attempts_rate() -> pl.Expr:
    """Share of attempts approved."""
    import polars as pl

    return pl.col("approved").cast(pl.Float64).mean()


@dataclass(frozen=True)
class RoutingBacktest(Table):
    """Net value an attempt of several ways to route, on the last third of the days.

    Attributes:
        results: One row a way: policy, value, interval, effective n, unit.
        trained, judged: Attempts learned from and judged on.
    """

    results: tuple[dict[str, Any], ...]
    trained: int
    judged: int

    def rows(self) -> list[dict[str, Any]]:
        """One row a policy, the trained one first."""
        return list(self.results)

    def notes(self) -> Sequence[str]:
        """What it was measured on, and what it leans on."""
        return (
            f"learned from {self.trained:,} attempts, judged on the {self.judged:,} after them",
            "doubly robust, 95% interval clustered by invoice",
            "propensities are estimated: shares by first attempt or retry, which is right where routing was random",
        )


def backtest(
    studio: mt.Studio,
    step: Progress = lambda *_a: None,
    *,
    margin: float = MARGIN,
    learner: RoutingModel | None = None,
) -> RoutingBacktest:
    """Learn from the first two thirds of the days, judge on the rest, as if their routing had been random.

    Raises:
        MatineeError: If there are not enough attempts.
    """
    import polars as pl

    from matinee.domains.payments.routing_value import Trial

    attempts, fees = history(studio.facts)
    cut, learner = last_third(attempts), learner or RoutingModel()
    trial = Trial(attempts.filter(pl.col("at") < cut), attempts.filter(pl.col("at") >= cut), fees, learner=learner)
    step(1, "fitting")
    q = trial.live
    step(1, "judging")
    sheet, judge = trial.sheet, trial.judge
    ways = {"expected net value": sheet.richest(q, margin)}
    ways |= {f"always {name}": np.full(len(judge), i) for i, name in enumerate(fees)}
    found = []
    for name, action in ways.items():
        head = sheet.value(action, margin, judge, name).headline
        found.append(
            {
                "policy": name, "net": head.value, "interval": None if head.low is None else (head.low, head.high),
                "effective n": round(head.effective_n), "unit": "minor units an attempt",
            }
        )  # fmt: skip
    success, failure = sheet.net(margin)
    rows = np.arange(len(judge))
    paid_out = np.where(sheet.approved == 1, success[rows, sheet.action], failure[rows, sheet.action])
    found.append({"policy": "as logged", "net": float(paid_out.mean()), "interval": None, "effective n": len(rows),
                  "unit": "minor units an attempt"})  # fmt: skip
    return RoutingBacktest(tuple(found), trial.train.select(pl.len()).item(), len(rows))
