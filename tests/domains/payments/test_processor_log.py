"""Attempts into purchases: by hand, as properties, with broken rows, and the published counts of the public log."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.domains.payments.planted import write

from matinee.domains.payments.facts import Attempt, Invoice, Processor
from matinee.domains.payments.processor_log import choices, facts, propensities, read, read_fees
from matinee.exceptions import BadInputError

BY_HAND = [
    "0,2019-01-01 10:00:00,Germany,89,0,cheap,0,Visa",
    "1,2019-01-01 10:00:30,Germany,89,0,dear,0,Visa",  # 30 s later: the same purchase
    "2,2019-01-01 10:00:40,Austria,89,0,cheap,0,Visa",  # another country: another purchase
    "3,2019-01-01 10:01:30,Germany,89,1,cheap,0,Visa",  # exactly 60 s later: still the same, and it succeeds
    "4,2019-01-01 10:01:35,Germany,89,0,cheap,0,Visa",  # after the success: a new purchase
    "5,2019-01-01 10:02:36,Germany,89,0,cheap,0,Visa",  # 61 s later: a new purchase
    "6,2019-01-01 10:02:36,Germany,89,1,dear,0,Visa",  # the same second: the file's order holds
]


def test_purchases_by_hand(tmp_path: Path) -> None:
    log = read(write(tmp_path, BY_HAND))
    found = {r["row"]: r for r in log.attempts.iter_rows(named=True)}
    groups = [found[r]["invoice"] for r in "0123456"]
    assert groups[0] == groups[1] == groups[3]
    assert groups[5] == groups[6]
    assert len({groups[0], groups[2], groups[4], groups[5]}) == 4
    assert [found[r]["number"] for r in "0123456"] == [1, 2, 1, 3, 1, 1, 2]
    assert [found[r]["previous"] for r in "0123456"] == [None, "cheap", None, "dear", None, None, "cheap"]
    assert [found[r]["gap_seconds"] for r in "0136"] == [None, 30.0, 60.0, 0.0]


def test_money_is_minor_units_by_the_decimals_of_the_currency(tmp_path: Path) -> None:
    log = read(write(tmp_path, ["0,2019-01-01 10:00:00,Germany,89.5,1,dear,0,Visa"]))
    assert log.attempts.select("amount_minor", "fee_minor").row(0) == (8950, 500)
    table = "psp,fee_success_jpy,fee_failure_jpy\ncheap,100,50\n"
    yen = read(write(tmp_path / "yen", ["0,2019-01-01 10:00:00,Japan,890,0,cheap,0,Visa"], fees=table), currency="JPY")
    assert yen.attempts.select("amount_minor", "fee_minor").row(0) == (890, 50)


def test_times_are_read_in_the_zone_given(tmp_path: Path) -> None:
    path = write(tmp_path, ["0,2019-07-01 10:00:00,Germany,89,0,cheap,0,Visa"])
    assert read(path, zone="Europe/Berlin").attempts["at"][0].isoformat() == "2019-07-01T08:00:00+00:00"


def test_a_choice_stands_between_the_answer_before_it_and_its_own(tmp_path: Path) -> None:
    log = read(write(tmp_path, BY_HAND))
    attempts = next(frame for fact, frame in facts(log) if fact is Attempt)
    answered = dict(attempts.select("choice", "at").iter_rows())
    made = {c.id: c for c in choices(log)}
    assert made["log-5"].at < answered["log-5"] < made["log-6"].at < answered["log-6"]
    assert made["log-1"].context["number"] == 2
    assert made["log-1"].context["previous"] == "cheap"
    assert made["log-0"].cluster == made["log-1"].cluster == made["log-0"].unit
    assert all(c.estimated for c in made.values())


def test_propensities_are_shares_of_first_attempts_and_of_retries(tmp_path: Path) -> None:
    log = read(write(tmp_path, BY_HAND))
    shares = propensities(log.usable, log.processors)
    assert shares[True] == {"cheap": 1.0, "dear": 0.0}
    assert shares[False] == {"cheap": pytest.approx(1 / 3), "dear": pytest.approx(2 / 3)}
    assert next(choices(log)).propensities == [1.0]
    retried = next(c for c in choices(log) if c.id == "log-1")  # through dear
    assert retried.propensities == [pytest.approx(2 / 3)]
    given = {True: {"cheap": 0.5, "dear": 0.5}, False: {"cheap": 0.25, "dear": 0.75}}
    assert next(choices(log, given)).propensities == [0.5]


def test_facts_are_as_declared(tmp_path: Path) -> None:
    found = dict(facts(read(write(tmp_path, BY_HAND))))
    assert set(found) == {Processor, Invoice, Attempt}
    assert found[Processor].select("processor", "fee_success_minor", "fee_failure_minor").rows() == [
        ("cheap", 100, 50),
        ("dear", 500, 200),
    ]
    assert len(found[Invoice]) == 4
    for fact, frame in found.items():
        assert set(frame.columns) <= {*fact.schema.columns, "at", "known", "choice"}


BROKEN = [
    "1,not a time,Germany,89,0,cheap,0,Visa",
    "2,2019-01-01 10:00:10,Germany,lots,0,cheap,0,Visa",
    "3,2019-01-01 10:00:10,Germany,89,maybe,cheap,0,Visa",
    "4,2019-01-01 10:00:10,Germany,89,0,,0,Visa",
    "5,2019-01-01 10:00:10,Germany,89,0,cheap",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_row_that_cannot_be_read_is_passed_on_alone(tmp_path: Path, line: str) -> None:
    good = ["0,2019-01-01 10:00:00,Germany,89,0,cheap,0,Visa", "9,2019-01-01 10:00:20,Germany,89,1,dear,0,Visa"]
    log = read(write(tmp_path, [good[0], line, good[1]]))
    assert len(log.attempts) == 3
    assert len(log.usable) == 2
    bad = log.attempts.filter(~pl.col("usable"))
    assert bad["number"][0] == 1
    assert not set(bad["invoice"]) & set(log.usable["invoice"])
    assert line.split(",")[0] not in {c.id.removeprefix("log-") for c in choices(log)}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"'amount' is missing from log\.csv.* did you mean 'amout'"):
        path = write(tmp_path, [])
        path.write_text("ID,tmsp,country,amout,success,PSP,three_d,card\n")
        read(path)
    with pytest.raises(BadInputError, match=r"processor 'gold' has no fees in fees\.csv, must be one of cheap, dear"):
        read(write(tmp_path / "a", ["0,2019-01-01 10:00:00,Germany,89,0,gold,0,Visa"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="empty/ holds no CSV file, must hold one log"):
        read(tmp_path / "empty")
    with pytest.raises(BadInputError, match=r"no fees.*must be given: fees=FILE"):
        (tmp_path / "empty" / "log.csv").write_text("")
        read(tmp_path / "empty" / "log.csv")
    with pytest.raises(BadInputError, match="'fee_success_usd' is missing"):
        read_fees(tmp_path / "fees.csv", "USD")


countries, processors = st.sampled_from(["Germany", "Austria"]), st.sampled_from(["cheap", "dear"])
rows = st.tuples(st.integers(0, 400), countries, st.integers(1, 2), st.booleans(), processors)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_rows=st.lists(rows, max_size=25))
def test_every_row_is_in_one_purchase_and_purchases_are_what_they_say(
    tmp_path: Path, given_rows: list[tuple[int, str, int, bool, str]]
) -> None:
    lines = [
        f"{i},2019-01-01 10:{s // 60:02d}:{s % 60:02d},{country},{amount},{int(ok)},{psp},0,Visa"
        for i, (s, country, amount, ok, psp) in enumerate(given_rows)
    ]
    log = read(write(tmp_path, lines))
    assert sorted(log.attempts["row"].to_list(), key=int) == [str(i) for i in range(len(lines))]
    assert log.attempts["at"].is_sorted()
    for group in log.attempts.partition_by("invoice"):
        assert group.sort("number")["number"].to_list() == list(range(1, len(group) + 1))
        assert group.select("country", "amount_minor", "card", "three_d").n_unique() == 1
        assert group["at"].is_sorted()
        assert group["at"].n_unique() == len(group)
        assert not group["approved"][:-1].any()
        assert (group["gap_seconds"].drop_nulls() <= 60).all()


def test_the_public_log_has_its_published_counts(shared_data: Path) -> None:
    log = read(shared_data / "payments" / "psp-routing")
    attempts = log.usable
    assert len(attempts) == 26_304
    purchases = attempts.group_by("invoice").agg(pl.col("approved").any())
    assert len(purchases) == 14_307
    assert purchases["approved"].mean() == pytest.approx(0.372, abs=5e-4)
    shares = propensities(attempts, log.processors)
    assert [round(shares[True][p], 3) for p in log.processors] == [0.263, 0.489, 0.173, 0.075]
    assert [round(shares[False][p], 3) for p in log.processors] == [0.231, 0.575, 0.146, 0.048]
