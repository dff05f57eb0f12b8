"""The retries of the demo: charges that are declined, tried once more at a drawn time and processor, and judged."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matinee.demo.parts import Bar, Clock, Truth, row
from matinee.times import duration

if TYPE_CHECKING:
    from matinee.studio import Studio
    from matinee.worlds import Contexts, StreamingService

DECLINED = 4000  # declined invoices that are retried, about: half of them judge, and fewer often cannot tell the two apart
BATCHES = 8  # hours at which charges fall due
SPREAD = 60.0  # temperature of the learned retry policy, in cents of expected net value


def retries(studio: Studio, world: StreamingService, clock: Clock, bar: Bar) -> list[dict[str, Any]]:
    """The retry of a declined charge, from a uniform log to a release; a row for each policy that was judged."""
    import numpy as np

    import matinee as mt

    rng = np.random.default_rng(world.seed + 1)
    anything = studio.save_policy("retry", mt.Uniform(), note="any wait and any processor: the cleanest log there is")
    studio.release("retry", anything, 1.0, by="demo")
    with bar.step("retry: charges fall due, some are declined, each of those is tried once more", BATCHES) as advance:
        middle, situations, codes = _serve_retries(studio, world, clock, rng, advance)
    clock.now = max(clock.now, studio.choices("retry", limit=1)["at"][0] + timedelta(days=16))
    with bar.step("retry: a model learns from the first half of the log"):
        model = mt.LightGBM(objective="regression", trees=120, leaves=7, min_rows=40)
        labels = _labels(studio, middle)
        ranker = studio.train("retry", model, on=[studio.features["charge"]], labels=labels, action=True, clock=True)
        learned = studio.save_policy(
            "retry", mt.Softmax(ranker, temperature=SPREAD, floor=0.1), note="expected net value, explored"
        )
    with bar.step("retry: judged on the second half, beside the truth"):
        judged = {n: studio.evaluate("retry", n, since=middle, lateness=timedelta(0)) for n in (anything, learned)}
        truths = {n: _true_retries(studio, situations, codes, n) for n in judged}
    if judged[learned].better:
        with bar.step("retry: the learned policy released, half of the invoices held back to measure it"):
            studio.release("retry", learned, 1.0, baseline=0.5, note="off-policy better than random", by="demo")
    return [row(studio, "retry", n, judged[n], truths[n]) for n in judged]


def _serve_retries(
    studio: Studio, world: StreamingService, clock: Clock, rng: Any, advance: Any
) -> tuple[datetime, list[Contexts], dict[str, str]]:
    """Batches of charges at hours of four days, each decline tried once more.

    Returns:
        The time that halves the choices; the situations of the second half as the world has them; the declines' codes.
    """
    import heapq

    import polars as pl

    due: list[tuple[datetime, str, str, str]] = []  # attempts that wait for their time
    amounts: dict[str, tuple[int, str]] = {}
    codes: dict[str, str] = {}
    situations: list[Contexts] = []
    halves = world.now
    for batch in range(BATCHES):
        begin = world.now + timedelta(days=6, hours=13 * batch)
        _answer_due(studio, world, clock, due, amounts, begin, rng)
        invoices = world.extra_invoices(9 * DECLINED // BATCHES, begin, begin + timedelta(hours=1), rng)
        amounts |= {i: (a, c) for i, a, c in invoices.select("invoice", "amount_minor", "currency").iter_rows()}
        routes = rng.choice(world.routes, len(invoices)).tolist()
        charged = world.respond_charges(invoices["invoice"].to_list(), routes, invoices["at"].to_list(), rng)
        clock.now = max([clock.now, begin + timedelta(hours=1), *charged["known"].to_list()])
        studio.append("invoice", invoices)
        studio.append("attempt", charged)
        declined = charged.filter(~pl.col("approved")).sort("at")
        codes |= dict(declined.select("invoice", "code").iter_rows())
        if batch >= BATCHES // 2:
            situations.append(world.declined_now(declined["invoice"].to_list()))
        for invoice, at, known in declined.select("invoice", "at", "known").iter_rows():
            moment = max(at, known) + timedelta(seconds=1)
            choice = studio.decide("retry", invoice, {"zone": "UTC"}, at=moment)
            wait, _, route = str(choice.action[0]).partition(" ")
            if route:
                heapq.heappush(due, (moment + duration(wait), choice.id, invoice, route))
        if batch == BATCHES // 2 - 1:
            halves = begin + timedelta(hours=13)
        advance(1)
    _answer_due(studio, world, clock, due, amounts, world.end, rng)
    studio.seal()
    return halves, situations, codes


def _answer_due(
    studio: Studio, world: StreamingService, clock: Clock, due: list[Any], amounts: dict[str, tuple[int, str]], until: datetime,
    rng: Any,
) -> None:  # fmt: skip
    """Make the attempts whose time has come, and record what came of them."""
    import heapq

    while due and due[0][0] <= until:
        at, choice, invoice, route = heapq.heappop(due)
        answer = world.respond_charge(invoice, route, at, rng)
        clock.now = max(clock.now, answer.known, at)
        amount, currency = amounts[invoice]
        said = {
            "invoice": invoice, "number": answer.number, "processor": route, "amount_minor": amount, "currency": currency,
            "approved": answer.approved, "code": answer.code, "fee_minor": answer.fee_minor,
        }  # fmt: skip
        studio.record(choice, "attempt", {**said, "at": at, "known": clock.now})


def _labels(studio: Studio, until: datetime) -> Any:
    """What each logged retry brought, for learning: the first half of the log only."""
    import polars as pl

    from matinee.rewarded import rewarded_slots

    log = studio.choices("retry", until=until).filter(pl.col("fallback").is_null())
    return rewarded_slots(studio, studio.decision("retry"), log).rename({"reward": "y"})


def _true_retries(studio: Studio, situations: list[Contexts], codes: dict[str, str], name: str) -> Truth:
    """The true value of a saved policy over the very invoices it is judged on: exact over its actions."""
    import numpy as np

    from matinee import guards
    from matinee.draw import fill_slots
    from matinee.policies import Request
    from matinee.worlds.truth import charge_worth

    decision, policy = studio.decision("retry"), studio.policy(name)
    assert decision.options is not None
    options = decision.options.candidates()
    each: list[float] = []
    for contexts in situations:
        place = {str(a): i for i, a in enumerate(contexts.ids.tolist())}
        order = np.array([place[str(a)] for a in options.ids.tolist()])
        worth = charge_worth(contexts, "net")[:, order]
        for i, seen in enumerate(contexts.frame.iter_rows(named=True)):
            columns = ("amount_minor", "currency", "country", "card", "debit", "three_d", "previous")
            known = {k: seen.get(k) for k in columns} | {"code": codes[seen["invoice"]], "gap_seconds": 60.0}
            known |= {"attempts": 1, "attempts_30d": 1, "approved": 0, "stops": 0}
            request = Request("retry", seen["invoice"], seen["at"] + timedelta(minutes=1), {"zone": "UTC"}, known)
            guarded = guards.apply(decision.guards, request, options)
            allowed = options.take(np.flatnonzero(guarded.allowed))
            _, _, chance = fill_slots(
                policy.components(request, allowed),
                np.ones(len(allowed), np.bool_),
                1,
                uniforms=np.zeros(1),
                full=True,
            )
            each.append(float(chance[0] @ worth[i][guarded.allowed]))
    values = np.array(each)
    return Truth(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5))
