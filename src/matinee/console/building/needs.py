"""What needs a person: stale seals, fallbacks, failed gates, challengers that are told apart, quarantine, refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from matinee.console.building import evidence
from matinee.console.building.desk import Desk
from matinee.console.building.health import WEAK, hours_of
from matinee.console.building.log_figures import log_figures
from matinee.console.formats import capitalize_first, count, length, moment, percent, plural, verb
from matinee.console.pages import Need

STALE_SEAL = timedelta(hours=1)


def needed(desk: Desk) -> list[Need]:
    """What needs a person, the most pressing first."""
    found = [*_stale_seal(desk), *_weak_hours(desk), *_held_back(desk), *_challengers(desk)]
    return [*found, *_quarantined(desk), *_refused(desk), *_checks(desk)]


def _stale_seal(desk: Desk) -> list[Need]:
    oldest, segments = desk.log.oldest_unsealed()
    if oldest is None or desk.now - oldest < STALE_SEAL:
        return []
    text = (
        f"The oldest record waits since {moment(oldest, desk.now)}, in {plural(segments, 'segment')}. "
        "Nothing is lost; evidence does not see it yet."
    )
    return [
        Need(
            length(desk.now - oldest),
            "The log is not sealed",
            text,
            "`matinee seal`, every quarter of an hour",
            "/choices",
            "See what waits",
        )
    ]


def _weak_hours(desk: Desk) -> list[Need]:
    out = []
    for name, decision in desk.studio.decisions.items():
        hours = hours_of(desk, name)
        n, fell = hours.get(23, (0, 0))
        if n >= 10 and fell / n >= WEAK and desk.studio.releases.live(name) is not None:
            newest = next((c.fallback for c in desk.log.choices(decision=name, limit=20) if c.fallback), None)
            text = (
                f"{count(fell)} of {count(n)} choices of the last hour fell back. The newest says: {newest}."
                if newest
                else ""
            )
            out.append(
                Need(
                    "now",
                    f"{capitalize_first(decision.title)} falls back",
                    text,
                    f"`{name}`",
                    f"/choices?decision={name}",
                    "See its choices",
                )
            )
    return out


def _held_back(desk: Desk) -> list[Need]:
    """Failed gates: guards that are no longer those of the release, and decisions that nothing is released for."""
    out = []
    for decision in desk.in_use:
        name = decision.name
        live = desk.studio.releases.live(name)
        title = capitalize_first(decision.title)
        if live is None:
            made = desk.studio.policies(name)
            text = (
                f"{plural(len(made), 'policy waits', 'policies wait')}. Until one is released, all get the fallback."
                if made
                else "No policy has been made. Until one is released, requests get the fallback."
            )
            out.append(
                Need(
                    "open",
                    f"Nothing is released for `{name}`",
                    text,
                    title,
                    f"/decisions/{name}#release",
                    "Release one" if made else "See what it needs",
                )
            )
            continue
        before, now = set(live.guards), set(decision.guard_names)
        if before != now:
            changed = ", ".join([f"−{g}" for g in sorted(before - now)] + [f"+{g}" for g in sorted(now - before)])
            out.append(
                Need(
                    "gate",
                    f"The guards of `{name}` changed",
                    f"{changed}, since release {live.number}. The next release must say what and why.",
                    title,
                    f"/decisions/{name}#release",
                    "Release it again",
                )
            )
    return out


def _challengers(desk: Desk) -> list[Need]:
    out = []
    for name, decision in desk.studio.decisions.items():
        live = desk.studio.releases.live(name)
        challenger = next((a for a in live.arms if a.role == "challenger"), None) if live else None
        ahead = log_figures(desk, decision).ahead
        if challenger is None or ahead is None or not ahead.told_apart or ahead.value is None:
            continue
        better = ahead.value > 0
        verb = "Release or hold" if better else "Roll back"
        side = "Ahead of" if better else "Behind"
        text = f"{side} the live policy by {evidence.words(ahead)}. Its share is {percent(challenger.share, 0)}."
        out.append(
            Need(
                "ready" if better else "now",
                f"{verb} **{challenger.policy}** on `{name}`",
                text,
                capitalize_first(decision.title),
                f"/decisions/{name}#release",
                "Review the release",
            )
        )
    return out


def _quarantined(desk: Desk) -> list[Need]:
    groups = desk.studio.quarantine.list().groups
    if not groups:
        return []
    by_fact: dict[str, int] = {}
    for fact, _batch, _source, _reason, n in groups:
        by_fact[fact] = by_fact.get(fact, 0) + n
    total = sum(by_fact.values())
    facts = sorted(by_fact, key=lambda f: -by_fact[f])
    listed = ", ".join(f"{count(by_fact[f])} of `{f}`" for f in facts[:3])
    more = f" and {count(sum(by_fact[f] for f in facts[3:]))} more" if len(facts) > 3 else ""
    text = f"{listed}{more}. Nothing reads them until somebody decides."
    title = f"{plural(total, 'row')} {verb(total, 'waits', 'wait')} in quarantine"
    return [Need("held", title, text, "facts", "/quarantine", "Look at the rows")]


def _refused(desk: Desk) -> list[Need]:
    """Live policies about which the newest evidence is a refusal."""
    out = []
    for name in desk.studio.decisions:
        live = desk.studio.releases.live(name)
        if live is None:
            continue
        for policy in dict.fromkeys(live.policies):
            found = desk.studio.evidence(name, policy)
            if found and found[0].get("refused"):
                at = datetime.fromtimestamp(found[0]["at"], UTC)
                text = evidence.says(found[0], evidence.difference(found[0]))
                out.append(
                    Need(
                        f"{at.day} {at:%b}",
                        f"**{policy}** cannot be judged",
                        capitalize_first(text) + ".",
                        f"`{name}`",
                        f"/decisions/{name}",
                        "See its evidence",
                    )
                )
    return out


def _checks(desk: Desk) -> list[Need]:
    """What the doctor found, beyond what stands above."""
    found = desk.checkup.findings()
    if found is None:
        return []
    skip = ("quarantine", "log", "releases", "guards of")
    return [
        Need(
            "broken" if f.state == "broken" else "care",
            f"{capitalize_first(f.check)}: {f.detail}",
            f"To mend it: `{f.mend}`" if f.mend else "",
            f"`matinee doctor`, looked at {moment(found.at, desk.now)}",
            "/#health",
            "See the health",
        )
        for f in found.report.findings
        if f.state != "ok" and not f.check.startswith(skip)
    ]
