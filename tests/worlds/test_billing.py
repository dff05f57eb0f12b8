from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from matinee.exceptions import MatineeError
from matinee.worlds.people import COUNTRIES
from matinee.worlds.processors import FEES_FAILURE_MINOR, FEES_SUCCESS_MINOR, PROCESSORS
from matinee.worlds.retry import DO_NOT_HONOUR, PAYS, TECHNICAL
from matinee.worlds.service import StreamingService

Small = Callable[..., StreamingService]


def test_acceptance_of_one_is_acceptance_of_many(world: StreamingService) -> None:
    rng = np.random.default_rng(0)
    n = 500
    country, network = rng.integers(0, len(COUNTRIES), n), rng.integers(0, 2, n)
    amount, debit, day = rng.choice([399, 799, 1799], n), rng.random(n) < 0.5, rng.uniform(0, 79, n)
    many = world.processors.acceptance(country, amount, network, debit, day)
    assert ((many > 0) & (many < 1)).all()
    for i in range(n):
        for p in range(len(PROCESSORS)):
            one = world.processors.acceptance_of(
                int(country[i]), int(amount[i]), int(network[i]), bool(debit[i]), float(day[i]), p
            )
            assert one == pytest.approx(many[i, p])


def test_outages_start_and_stop_and_cost_two_thirds(world: StreamingService) -> None:
    down = world.processors.down
    assert 0 < down.mean() < 0.1
    begins, ends = (~down[:-1] & down[1:]).sum(), (down[:-1] & ~down[1:]).sum()
    assert begins >= 4
    assert abs(int(begins) - int(ends)) <= len(PROCESSORS)
    step, p = np.argwhere(down)[0]
    args = (np.array([0]), np.array([799]), np.array([0]), np.array([False]), np.array([(step + 0.5) / 96]))
    during = world.processors.acceptance(*args)[0, p]
    world.processors.down[step, p] = False
    try:
        assert during / world.processors.acceptance(*args)[0, p] == pytest.approx(world.settings.outage_factor)
    finally:
        world.processors.down[step, p] = True


def test_one_charge_and_many_draw_the_same_numbers(small: Small) -> None:
    one, many = small(), small()
    first = one.extra_invoices(4_000, one.now, one.now + timedelta(days=20), np.random.default_rng(1))
    many.extra_invoices(4_000, many.now, many.now + timedelta(days=20), np.random.default_rng(1))
    ids, at = first["invoice"].to_list(), first["at"].to_list()
    route = [PROCESSORS[i % 4] for i in range(4_000)]
    rng = np.random.default_rng(2)
    answers = [one.respond_charge(i, p, t, rng) for i, p, t in zip(ids, route, at)]
    frame = many.respond_charges(ids, route, at, np.random.default_rng(2))
    assert frame["approved"].to_list() == [a.approved for a in answers]
    assert frame["code"].to_list() == [a.code for a in answers]
    assert frame["fee_minor"].to_list() == [a.fee_minor for a in answers]
    gaps = [abs(k - a.known) for k, a in zip(frame["known"].to_list(), answers)]
    assert max(gaps) <= timedelta(microseconds=2)  # sums in another order
    declined = [i for i, a in zip(ids, answers) if not a.approved]
    assert len(declined) > 300
    rng = np.random.default_rng(3)
    again = [one.respond_retry(i, "3d birch", rng) for i in declined]
    later = [t + timedelta(days=3) for t, a in zip(at, answers) if not a.approved]
    second = many.respond_charges(declined, ["birch"] * len(declined), later, np.random.default_rng(3))
    assert second["approved"].to_list() == [a is not None and a.approved for a in again]
    assert second["number"].unique().to_list() == [2]
    assert second["previous"].to_list() == [p for p, a in zip(route, answers) if not a.approved]
    assert (second["gap_seconds"] == 3 * 86_400).all()


def test_frequencies_of_first_charges_agree_with_their_truth(small: Small) -> None:
    world = small(seed=3)
    b, n = world.billing, 40_000
    rng = np.random.default_rng(0)
    invoice = b.add(rng.integers(0, world.members.count, n), rng.uniform(20, 70, n), rng)
    route = rng.integers(0, 4, n)
    pays = b.reason_probabilities(b.member[invoice], b.due[invoice])[:, PAYS]
    truth = pays * b.acceptance(invoice, b.due[invoice])[np.arange(n), route]
    made = b.charge(invoice, route, b.due[invoice], rng)
    for p in range(4):
        mine = route == p
        error = np.sqrt((truth[mine] * (1 - truth[mine])).sum()) / mine.sum()
        assert abs(made.approved[mine].mean() - truth[mine].mean()) < 4 * error
    assert (made.fee_minor == np.where(made.approved, FEES_SUCCESS_MINOR[route], FEES_FAILURE_MINOR[route])).all()
    assert set(made.code[made.approved]) == {"00"}
    assert "00" not in made.code[~made.approved]


def test_frequencies_of_retries_agree_with_their_truth(small: Small) -> None:
    world = small(seed=4)
    b = world.contexts("retry", 6_000).hidden
    billing, invoice = b["billing"], b["invoice"]
    day, route = billing.last_attempt[invoice] + 2.0, np.full(len(invoice), 1)
    truth = billing.retry_success(invoice, day, route)
    made = billing.charge(invoice, route, day, np.random.default_rng(1))
    error = np.sqrt((truth * (1 - truth)).sum()) / len(truth)
    assert abs(made.approved.mean() - truth.mean()) < 4 * error
    assert 0.05 < truth.mean() < 0.6


def test_a_processor_failure_is_technical_while_it_is_down(small: Small) -> None:
    world = small(outages_per_month=0.0)
    b, rng = world.billing, np.random.default_rng(0)
    world.processors.down[:] = True
    n = 4_000
    invoice = b.add(rng.integers(0, world.members.count, n), np.full(n, 21.0), rng)
    paying = b.hidden.reason[invoice] == PAYS
    made = b.charge(invoice, np.zeros(n, np.int64), np.full(n, 21.0), rng)
    after = b.hidden.reason[invoice]
    assert (after[paying & ~made.approved] == TECHNICAL).all()
    world.processors.down[:] = False
    second = b.add(rng.integers(0, world.members.count, n), np.full(n, 21.0), rng)
    paying = b.hidden.reason[second] == PAYS
    made = b.charge(second, np.zeros(n, np.int64), np.full(n, 21.0), rng)
    caused = b.hidden.reason[second][paying & ~made.approved]
    assert np.mean(caused == DO_NOT_HONOUR) > 0.9


def test_a_paid_invoice_is_not_charged_again(small: Small) -> None:
    world = small()
    rng = np.random.default_rng(0)
    frame = world.renewals(world.now, world.now + timedelta(days=2), rng)
    for invoice, at in frame.select("invoice", "at").iter_rows():
        if world.respond_charge(invoice, "dogwood", at, rng).approved:
            break
    with pytest.raises(MatineeError, match=f"{invoice}' is paid, must not be charged"):
        world.respond_charge(invoice, "dogwood", at, rng)
    with pytest.raises(MatineeError, match="is paid"):
        world.respond_charges([invoice], ["dogwood"], [at], rng)
    with pytest.raises(MatineeError, match="did you mean 'dogwood'"):
        world.respond_charge(invoice, "dogwod", at, rng)
    with pytest.raises(MatineeError, match="must be one of this world's"):
        world.respond_charge("inv-999999", "dogwood", at, rng)


def test_the_history_bills_every_renewal_once_and_stops_when_told(world: StreamingService) -> None:
    attempts, invoices = world.frames()["attempt"], world.frames()["invoice"]
    assert attempts.filter(attempts["number"] == 1).height == invoices.height
    assert attempts.select("invoice", "number").is_duplicated().sum() == 0
    assert attempts["invoice"].n_unique() == invoices.height
    assert attempts.group_by("invoice").agg(pl.col("approved").sum())["approved"].max() == 1
    stopped = world.frames()["stopped"].join(attempts, on="invoice", suffix="_attempt")
    assert stopped.height > 0
    assert (stopped["at_attempt"] < stopped["at"]).all()
