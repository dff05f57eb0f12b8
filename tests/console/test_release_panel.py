"""The release form: what it refuses, what it asks, what it says afterwards."""

from __future__ import annotations

import pytest
from console_sample import NOW, RELEASES

from matinee.console.release_panel import panel, shares, wrong
from matinee.console.source import DecisionQuery, ReleaseForm

POLICIES = ("sequence-4", "boost-31")


def show(query: DecisionQuery, **changes: object) -> object:
    options = {"unit": "member", "units": 1000, "back_to": 40, "now": NOW, "allowed": True, **changes}
    return panel(query, RELEASES, POLICIES, **options)  # type: ignore[arg-type]  # the options are those of panel


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ("1.5", "share == 1.5, must be between 0 and 1; did you mean 0.15?"),
        ("20", "share == 20, must be between 0 and 1; did you mean 0.2?"),
        ("0", "share == 0.0, must be > 0"),
        ("-0.1", "share == -0.1, must be > 0"),
        ("nan", "share == nan, must be a number"),
        ("a lot", "share == 'a lot', must be a number between 0 and 1, such as 0.05"),
    ],
)
def test_a_wrong_share_says_what_would_be_right(share: str, said: str) -> None:
    assert wrong(ReleaseForm("boost-31", share)) == ("share", said)


def test_a_baseline_must_fit_beside_the_share() -> None:
    assert shares(ReleaseForm("x", "0.2", "0.05")) == (0.2, 0.05)
    assert shares(ReleaseForm("x", "1", "0.05")) == (1.0, 0.05)
    found = wrong(ReleaseForm("x", "0.9", "0.2"))
    assert found is not None and found[0] == "baseline"
    assert wrong(ReleaseForm("", "0.2")) == ("policy", "policy is missing, must be chosen")


def test_the_question_names_the_effect_and_carries_the_form() -> None:
    form = ReleaseForm("sequence-4", "0.5", "0.05")
    ask = show(DecisionQuery("release", form)).ask  # type: ignore[attr-defined]  # a panel
    assert ask.kind == "release" and ask.fields == form.fields()
    assert "50\xa0% of members" in ask.ask and "about 500" in ask.ask and "Release 41 stays and can come back" in ask.ask


def test_a_gate_that_wants_a_reason_gets_one_before_it_asks() -> None:
    form = ReleaseForm("boost-31", "0.5")
    first = show(DecisionQuery("release", form), ask_reason="nothing was measured about it")
    assert first.ask is None and first.error[0] == "reason"  # type: ignore[attr-defined]  # a panel
    again = ReleaseForm("boost-31", "0.5", "", "we must")
    second = show(DecisionQuery("release", again), ask_reason="nothing was measured about it")
    assert second.ask is not None and second.error is None  # type: ignore[attr-defined]  # a panel


def test_a_rollback_asks_and_takes_away() -> None:
    ask = show(DecisionQuery("rollback")).ask  # type: ignore[attr-defined]  # a panel
    assert ask.harm and ask.fields == {"to": "40"} and "release 40" in ask.ask


def test_what_was_done_is_read_from_the_release_itself_and_can_be_undone() -> None:
    done = show(DecisionQuery(done="41"))
    assert "sequence-4" in done.done and done.undo.fields == {"to": "40"}  # type: ignore[attr-defined]  # a panel
    for made_up in ("40", "999", "<script>"):
        assert show(DecisionQuery(done=made_up)).done is None  # type: ignore[attr-defined]  # a panel


def test_a_viewer_is_asked_nothing() -> None:
    query = DecisionQuery("release", ReleaseForm("boost-31", "0.5"))
    seen = show(query, allowed=False)
    assert seen.ask is None and not seen.allowed  # type: ignore[attr-defined]  # a panel
