"""What a routing policy would have earned on a log of attempts: doubly robust, clustered by purchase.

The value of an attempt is success * margin * amount - fee. The log's routing was close to random, so its shares serve
as propensities, apart for first attempts and retries: an estimate, which every result says. The model that judges is
cross-fitted: days of one parity are predicted by models fitted on the training log and the days of the other parity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from matinee.domains.payments.processor_log import Fees, propensities
from matinee.domains.payments.routing_model import RoutingModel
from matinee.evaluate import EvidenceTable, Logged, estimate_all
from matinee.exceptions import BadInputError

Array = np.ndarray[Any, Any]
WINDOW = 5_000  # attempts from which the price of a fee is solved each day


@dataclass
class Sheet:
    """Attempts as arrays: what was tried, what came of it, what it cost.

    Attributes:
        amount: Minor units, shape (rows,).
        action: Index of the processor tried, shape (rows,).
        approved: 0 or 1, shape (rows,).
        purchase: Label of the purchase, shape (rows,).
        chance: Estimated probability of each processor, shape (rows, processors).
        on_success, on_failure: Fees in minor units, shape (processors,).
        processors: Names.
    """

    amount: Array
    action: Array
    approved: Array
    purchase: Array
    chance: Array
    on_success: Array
    on_failure: Array
    processors: list[str]

    @classmethod
    def of(cls, attempts: pl.DataFrame, fees: Mapping[str, Fees], shares: Mapping[bool, Mapping[str, float]]) -> Sheet:
        """The sheet of a frame of attempts.

        Args:
            attempts: Columns of a `ProcessorLog`.
            fees: By processor.
            shares: Propensities for first attempts (True) and retries (False).
        """
        names = list(fees)
        index = {n: i for i, n in enumerate(names)}
        table = np.array([[shares[first][n] for n in names] for first in (False, True)])
        for first in sorted(set((attempts["number"] == 1).to_list())):
            never = [n for n in names if shares[first][n] == 0]
            if never:
                kind = "first attempt" if first else "retry"
                raise BadInputError(
                    f"processor {never[0]!r} was never tried for a {kind}, must be: nothing says what it is worth"
                )
        return cls(
            attempts["amount_minor"].cast(pl.Float64).to_numpy(),
            attempts["processor"].replace_strict(index, return_dtype=pl.Int64).to_numpy(),
            attempts["approved"].cast(pl.Float64).to_numpy(),
            attempts["invoice"].to_numpy(),
            table[(attempts["number"] == 1).to_numpy().astype(np.int64)],
            np.array([f.success_minor for f in fees.values()], np.float64),
            np.array([f.failure_minor for f in fees.values()], np.float64),
            names,
        )

    def net(self, margin: float) -> tuple[Array, Array]:
        """Value of a success and of a failure through each processor, minor units, shapes (rows, processors)."""
        success = self.amount[:, None] * margin - self.on_success
        return success, np.broadcast_to(-self.on_failure, success.shape)

    def expected_fee(self, q: Array) -> Array:
        """Fee that each processor is expected to take, minor units, shape (rows, processors)."""
        fee: Array = q * self.on_success + (1 - q) * self.on_failure
        return fee

    @property
    def fee(self) -> Array:
        """Fee that was paid, shape (rows,)."""
        paid: Array = np.where(self.approved == 1, self.on_success[self.action], self.on_failure[self.action])
        return paid

    def richest(self, q: Array, margin: float) -> Array:
        """The processor with the largest expected value, shape (rows,)."""
        success, failure = self.net(margin)
        return np.asarray(np.argmax(q * success + (1 - q) * failure, axis=1))

    def likeliest(self, q: Array, price: float) -> Array:
        """The processor with the largest q - price * expected fee, shape (rows,)."""
        return np.asarray(np.argmax(q - price * self.expected_fee(q), axis=1))

    def price(self, q: Array, budget: float | None = None) -> float:
        """The price of a fee at which `likeliest` spends the budget: a Lagrange multiplier, by bisection.

        Args:
            q: Chances of approval of these rows, cross-fitted where these are training rows.
            budget: Mean fee allowed, minor units; the one that was paid where not given.
        """
        allowed = float(self.fee.mean()) if budget is None else budget
        rows, fees = np.arange(len(q)), self.expected_fee(q)
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if fees[rows, self.likeliest(q, middle)].mean() > allowed:
                low = middle
            else:
                high = middle
        return high

    def logged(self, action: Array, on_success: Array, on_failure: Array, q: Array, policy: str) -> Logged:
        """Rows for the estimators: a policy's actions, and the reward of success and failure through each processor."""
        rows, modelled = np.arange(len(self.action)), q * on_success + (1 - q) * on_failure
        reward = np.where(self.approved == 1, on_success[rows, self.action], on_failure[rows, self.action])
        return Logged(
            reward, self.chance[rows, self.action], (action == self.action).astype(np.float64),
            q=modelled[rows, self.action], q_policy=modelled[rows, action], cluster=self.purchase,
            action=np.array(self.processors)[self.action], policy=policy, estimated=True,
        )  # fmt: skip

    def value(self, action: Array, margin: float, q: Array, policy: str = "policy") -> EvidenceTable:
        """Net value an attempt, minor units, by every estimator; DR is the headline."""
        return estimate_all(self.logged(action, *self.net(margin), q, policy))

    def success(self, action: Array, q: Array, policy: str = "policy") -> EvidenceTable:
        """Share of attempts approved."""
        shape = (len(self.action), len(self.processors))
        return estimate_all(self.logged(action, np.ones(shape), np.zeros(shape), q, policy))

    def spent(self, action: Array, q: Array, policy: str = "policy") -> EvidenceTable:
        """Mean fee an attempt, minor units."""
        shape = (len(self.action), len(self.processors))
        paid, lost = np.broadcast_to(self.on_success, shape), np.broadcast_to(self.on_failure, shape)
        return estimate_all(self.logged(action, paid, lost, q, policy))


@dataclass
class Trial:
    """A model learned on one log and the rows of another on which it is judged.

    Attributes:
        train, test: Attempts in order of time.
        fees: By processor.
        model: Fitted on `train` already; else `learner` is.
        later: Whether `test` follows `train` in time, so that the filter goes on from where training ended. Where it
            does not (cross-validation), the filter starts empty.
        seed: For the learners.
        learner: What is fitted.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    fees: Mapping[str, Fees]
    model: RoutingModel | None = None
    later: bool = True
    seed: int = 0
    learner: RoutingModel = field(default_factory=RoutingModel)

    @cached_property
    def fitted(self) -> RoutingModel:
        """The model, fitted on the training log."""
        return self.model or self.learner.fit(self.train, list(self.fees), seed=self.seed)

    @cached_property
    def train_sheet(self) -> Sheet:
        """The training rows."""
        return Sheet.of(self.train, self.fees, propensities(self.train, list(self.fees)))

    @cached_property
    def sheet(self) -> Sheet:
        """The rows to judge on, with propensities of the training log."""
        return Sheet.of(self.test, self.fees, propensities(self.train, list(self.fees)))

    @cached_property
    def live(self) -> Array:
        """Chances of approval as a service would have seen them, each answer taken in; shape (rows, processors)."""
        return self.fitted.replay(self.test, fresh=not self.later)

    @cached_property
    def frozen(self) -> Array:
        """Chances of approval by what was learned from the training log alone."""
        return self.fitted.static(self.test)

    def within_budget(self, q: Array, before: Array) -> Array:
        """The likeliest processor while the mean expected fee stays at what the training log paid, shape (rows,).

        The price of a fee is solved anew each day, from the last `WINDOW` attempts before it: a filter that moves the
        chances would otherwise move what is spent.

        Args:
            q: Chances of approval of the rows to judge, shape (rows, processors).
            before: Chances of the training rows, cross-fitted.
        """
        budget = float(self.train_sheet.fee.mean())
        day = self.test["at"].dt.epoch("d").to_numpy()
        chances = np.concatenate([before, q])
        action = np.empty(len(q), np.int64)
        for today in np.unique(day):
            rows = np.flatnonzero(day == today)
            end = len(before) + int(rows[0])
            price = self.sheet.price(chances[max(0, end - WINDOW) : end], budget)
            action[rows] = self.sheet.likeliest(q[rows], price)
        return action

    @cached_property
    def judge(self) -> Array:
        """Cross-fitted chances that no row's own answer had a part in: what the doubly robust estimate leans on."""
        parity = self.test["at"].dt.epoch("d").to_numpy() % 2
        static = np.empty((len(self.test), len(self.fees)))
        for side in (0, 1):
            here, there = np.flatnonzero(parity == side), np.flatnonzero(parity != side)
            if len(here):
                both = pl.concat([self.train, self.test[there]]).sort("at", maintain_order=True)
                model = RoutingModel(self.fitted.columns.extras, variants=self.fitted.variants).fit_static(
                    both, list(self.fees), seed=self.seed
                )
                static[here] = model.static(self.test[here])
        return self.fitted.replay(self.test, static=static, fresh=not self.later)


def pool(sheets: Sequence[Sheet]) -> Sheet:
    """Several sheets as one, in order."""

    def joined(name: str) -> Array:
        return np.concatenate([getattr(s, name) for s in sheets])

    arrays = (joined(name) for name in ("amount", "action", "approved", "purchase", "chance"))
    amount, action, approved, purchase, chance = arrays
    first = sheets[0]
    return Sheet(amount, action, approved, purchase, chance, first.on_success, first.on_failure, first.processors)
