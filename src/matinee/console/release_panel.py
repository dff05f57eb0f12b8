"""The release form: what is wrong with it, the one question it asks, and what it says afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from matinee.checks import must
from matinee.console.formats import moment, percent
from matinee.console.pages import Act, ReleasePanel, SheetItem
from matinee.console.source import DecisionQuery, ReleaseForm
from matinee.exceptions import MatineeError


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What the panel has to know about one release.

    Attributes:
        number, kind, at, by, note: As it was made; `kind` is "release" or "rollback".
        arms: Policy, share and role ("live", "challenger", "baseline") of each arm.
    """

    number: int
    kind: str
    at: datetime
    by: str
    note: str
    arms: tuple[tuple[str, float, str], ...]

    @property
    def words(self) -> str:
        """`sequence-4 to 20 %, boost-31 on 75 %`."""
        order = {"challenger": 0, "live": 1, "baseline": 2}
        parts = sorted(self.arms, key=lambda arm: order.get(arm[2], 3))
        texts = []
        for policy, share, role in parts:
            how = f" as the {role}" if role == "baseline" else ""
            texts.append(f"**{policy}**{how} on {percent(share, 0)}")
        return ", ".join(texts)


def _share(text: str, name: str, *, least_is_open: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        raise MatineeError(f"{name} == {text!r}, must be a number between 0 and 1, such as 0.05") from None
    if value > 1:
        near = value / 100 if value >= 2 else value / 10
        raise MatineeError(f"{name} == {text}, must be between 0 and 1; did you mean {near:g}?")
    return must(value, name, gt=0, le=1) if least_is_open else must(value, name, ge=0, lt=1)


def shares(form: ReleaseForm) -> tuple[float, float]:
    """Share and baseline of a form; an empty baseline is none.

    Raises:
        MatineeError: `share == 1.5, must be between 0 and 1; did you mean 0.15?`
    """
    share = _share(form.share, "share", least_is_open=True)
    baseline = _share(form.baseline, "baseline", least_is_open=False) if form.baseline else 0.0
    if share < 1 and share + baseline > 1 + 1e-12:
        raise MatineeError(f"baseline == {form.baseline}, must be at most {1 - share:g} beside a share of {share:g}")
    return share, baseline


def wrong(form: ReleaseForm) -> tuple[str, str] | None:
    """The field that is wrong and what would be right; None when the form can be sent."""
    if not form.policy:
        return "policy", "policy is missing, must be chosen"
    try:
        shares(form)
    except MatineeError as error:
        return ("baseline" if str(error).startswith("baseline") else "share"), str(error)
    return None


def panel(
    query: DecisionQuery,
    releases: Sequence[ReleaseFacts],
    policies: Sequence[str],
    *,
    unit: str,
    units: int | None,
    gates: Sequence[SheetItem] = (),
    ask_reason: str = "",
    expected: str = "",
    back_to: int | None,
    now: datetime,
    allowed: bool,
) -> ReleasePanel:
    """The panel as the reader's address asks for it.

    Args:
        query: The address: which question is open, what the form holds, what was just done.
        releases: Newest first; the first one is live.
        policies: Names that can be released, newest first.
        unit: What a unit is called.
        units: How many units were decided for lately, to say whom it reaches.
        gates: What each gate says about the policy in the form.
        ask_reason: What a reason is asked for; empty when the gates ask for none.
        expected: What the evidence says about the policy in the form.
        back_to: Number of the release that a roll-back returns to.
        now: For the year in dates.
        allowed: False for a viewer.
    """
    live = releases[0] if releases else None
    form = query.form
    if not form.policy:
        challenger = next((a for a in live.arms if a[2] == "challenger"), None) if live else None
        policy = challenger[0] if challenger else policies[0] if policies else ""
        form = ReleaseForm(policy, f"{challenger[1]:g}" if challenger else ("0.05" if live else "1"), "", "")
    facts = []
    if live is not None:
        facts.append(SheetItem("Live now", live.words))
        if units:
            facts.append(SheetItem(f"{unit.capitalize()}s lately", f"{units:,}"))
    if expected:
        facts.append(SheetItem("Expected", expected))
    facts += gates
    error = wrong(form) if query.ask == "release" else None
    if query.ask == "release" and error is None and ask_reason and not form.reason:
        error = ("reason", f"reason is missing, must be given: {ask_reason}")
    if query.held:
        error = ("policy", query.held)
    ask = None
    if allowed and query.ask == "release" and error is None:
        ask = _ask_release(form, live, unit, units)
    elif allowed and query.ask == "rollback" and live is not None:
        target = next((r.number for r in releases if str(r.number) == query.to), None) if query.to else back_to
        ask = _ask_rollback(target, live, releases, unit)
    done, undo = _done(query.done, releases, now)
    return ReleasePanel(
        title="First release" if live is None else f"Release {live.number + 1}",
        note="nothing is live yet" if live is None else "draft",
        policies=tuple(policies),
        form=form.fields(),
        facts=tuple(facts),
        back_to=back_to,
        live=live.number if live else None,
        ask_reason=ask_reason,
        ask=ask,
        done=done,
        undo=undo if allowed else None,
        error=error,
        allowed=allowed,
    )


def _typed(share: float) -> str:
    """A share as somebody types it: 20 % rather than 20.0 %."""
    return percent(share, 0 if abs(100 * share - round(100 * share)) < 1e-9 else 1)


def _ask_release(form: ReleaseForm, live: ReleaseFacts | None, unit: str, units: int | None) -> Act:
    share, baseline = shares(form)
    reach = f", about {round(units * share):,}" if units and live is not None else ""
    if live is None:
        effect = f"It is the first release, so it decides for every {unit} from the next request on."
    elif share < 1:
        effect = f"It decides for {_typed(share)} of {unit}s{reach}, from the next request on."
    else:
        effect = f"It decides for every {unit} that is not held back, from the next request on."
    held = f" {_typed(baseline)} stay on today's policy, so that its worth stays measurable." if baseline else ""
    kept = f" Release {live.number} stays and can come back." if live else ""
    return Act(
        "release",
        f"**Release {form.policy}?** {effect}{held}{kept}",
        "Release",
        f"Keep {live.number}" if live else "Not now",
        form.fields(),
    )


def _ask_rollback(target: int | None, live: ReleaseFacts, releases: Sequence[ReleaseFacts], unit: str) -> Act | None:
    back = next((r for r in releases if r.number == target), None)
    if back is None:
        return None
    return Act(
        "rollback",
        f"**Roll back to release {back.number}?** From the next request on, every {unit} is decided for as then: "
        f"{back.words}. "
        f"Release {live.number} stays and can come back.",
        "Roll back",
        f"Keep {live.number}",
        {"to": str(back.number)},
        harm=True,
    )


def _done(done: str, releases: Sequence[ReleaseFacts], now: datetime) -> tuple[str | None, Act | None]:
    """What the newest release did, if it is the one that was just made, and the way back."""
    live = releases[0] if releases else None
    if live is None or done != str(live.number):
        return None, None
    what = f"Release {live.number}: {live.words}" if live.kind == "release" else f"Rolled back: {live.words}"
    if len(releases) < 2:
        return f"{what}, since {moment(live.at, now)}.", None
    undo = Act("rollback", "", "Undo", "", {"to": str(releases[1].number)})
    return f"{what}, since {moment(live.at, now)}.", undo


def gate_items(gates: Sequence[tuple[str, bool, str]]) -> tuple[SheetItem, ...]:
    """Gates as label and value: passed, or what would pass it."""
    return tuple(SheetItem(name.capitalize(), "in order" if passed else detail) for name, passed, detail in gates)
