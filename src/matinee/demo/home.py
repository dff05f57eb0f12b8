"""The home page of the demo: recommenders, 3,000 pages, evidence from their log, and the truth beside it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matinee.demo.parts import Bar, Clock, row

if TYPE_CHECKING:
    import numpy as np

    from matinee.policies import Candidates, Policy
    from matinee.studio import Studio
    from matinee.worlds import StreamingService

PAGES = 3000  # home pages served before anything is evaluated
TODAY = 400  # pages of the last day
TRUE_PAGES = 500  # visits over which true values of home pages are taken


def home_page(studio: Studio, world: StreamingService, clock: Clock, bar: Bar) -> list[dict[str, Any]]:
    """The home page, from recommenders to a release; a row for each policy that was judged."""
    import numpy as np

    from matinee import domain as domains

    with bar.step("home: recommenders and a ranker, point in time") as advance:
        popular, taste, ranker = domains.load("personalization").recipes["home"](studio, advance)
    with bar.step("home: published, and popularity released behind its gates"):
        studio.publish()
        studio.release("home", popular, 1.0, note="popularity, explored", by="demo")
        studio.refresh()
    rng = np.random.default_rng(world.seed)
    came: list[tuple[int, datetime, str]] = []
    while len(came) < PAGES:  # the same day as often as it takes
        came += _visits(world, world.now, rng)
    # Any of them, not the first: those are the morning's, when other members come than in the afternoon.
    visits = sorted((came[i] for i in rng.permutation(len(came))[:PAGES].tolist()), key=lambda visit: visit[1])
    with bar.step("home: pages served and their plays recorded", len(visits)) as advance:
        _serve_pages(studio, world, clock, visits, rng, advance, world.end)
    clock.now = world.now + timedelta(days=6)
    with bar.step("home: sealed, and two policies judged from the log"):
        studio.seal()
        judged = {name: studio.evaluate("home", name) for name in (popular, taste, ranker)}
    with bar.step("home: the true value of each, which no real service knows", 3) as advance:
        truths = {}
        for name in judged:
            truths[name] = _true_pages(studio, world, name)
            advance(1)
    best = max((n for n in (taste, ranker)), key=lambda n: judged[n].value or float("-inf"))
    if judged[best].better:
        with bar.step("home: the better one released, half of the members held back to measure it"):
            studio.release("home", best, 1.0, baseline=0.5, note="off-policy better than popularity", by="demo")
    return [row(studio, "home", name, judged[name], truths[name]) for name in judged]


def pages_of_today(studio: Studio, world: StreamingService, clock: Clock, bar: Bar, until: datetime) -> None:
    """Pages of the last day, so that the console opens on a service that is being used; sealed, then published."""
    import numpy as np

    rng = np.random.default_rng(world.seed + 2)
    since = until - timedelta(days=1)
    came = [v for day in (since, until) for v in _visits(world, day, rng) if since < v[1] < until]
    visits = [came[i] for i in np.sort(rng.permutation(len(came))[:TODAY])]
    with bar.step("today: pages of the last 24 hours, sealed, and everything published", len(visits)) as advance:
        _serve_pages(studio, world, clock, visits, rng, advance, until)
        clock.now = until
        studio.publish()


def _visits(world: StreamingService, day: datetime, rng: np.random.Generator) -> list[tuple[int, datetime, str]]:
    """The visits of one day: member, time, device, by time."""
    return [(int(m), at, str(d)) for m, at, d in world.visits(day, rng).select("member", "at", "device").iter_rows()]


def _serve_pages(
    studio: Studio,
    world: StreamingService,
    clock: Clock,
    visits: list[tuple[int, datetime, str]],
    rng: Any,
    advance: Any,
    until: datetime,
) -> None:
    """Fill a page for each visit, and record what was played of it by then, each play when it is heard of.

    Not before: a member who comes back while the last play is on would be a member with news from the future, whose
    page no policy may fill, and those who play most would be missing from the log.
    """
    import heapq

    countries = dict(world.frames()["member"].select("member", "country").iter_rows())
    heard: list[tuple[datetime, str, int, dict[str, Any]]] = []  # plays that will be known later

    def record(now: datetime) -> None:
        while heard and heard[0][0] <= now:
            known, choice, _, said = heapq.heappop(heard)
            clock.now = known
            studio.record(choice, "played", said)

    for member, at, device in visits:
        record(at)
        clock.now = at
        choice = studio.decide("home", member, {"device": device, "country": countries[member]}, at=at)
        # The world forgets each page, so that all pages of the log meet the world whose truth is taken afterwards.
        for play in world.respond_home(member, [int(a) for a in choice.action], at, rng, device=device, remember=False):
            said = {
                "member": member, "title": play.title, "seconds": play.seconds, "share": play.share, "device": device,
                "at": play.at, "known": play.known,
            }  # fmt: skip
            heapq.heappush(heard, (play.known, choice.id, play.slot, said))
        advance(1)
    record(until)


def _true_pages(studio: Studio, world: StreamingService, name: str) -> Any:
    """The true value of a saved policy: it fills the pages of fixed visits, in the world's present state."""
    import polars as pl

    from matinee.decisions import choose
    from matinee.policies import Request

    decision, policy = studio.decision("home"), studio.policy(name)
    catalogue = studio.live.candidates("home")
    frame = world.contexts("home", TRUE_PAGES).frame
    features = _as_of(studio, policy, "home", frame.select("member", "at"))
    for guard_features in decision.needs:
        if guard_features.key == "member":
            more = (
                guard_features.batch(studio.facts, frame.select("member", "at")).select(guard_features.names).to_dicts()
            )
            features = [{**a, **_plain(b)} for a, b in zip(features, more, strict=True)]
    agreed = _agreed(studio, frame["member"].cast(pl.String))
    rows = iter(range(len(frame)))
    hidden = {f: None for s in policy.scorers() for one in s.needs for f in one.names}

    def fill(context: dict[str, Any], _candidates: Candidates, rng: np.random.Generator) -> list[int]:
        i = next(rows)
        known = features[i] if str(context["member"]) in agreed else {**features[i], **hidden}
        request = Request("home", context["member"], context["at"], context, known)
        made = choose(decision, policy, request, catalogue, uniforms=rng.random(decision.slots))
        return [int(a) for a in made.action]

    return world.true_value("home", fill, n=TRUE_PAGES)


def _agreed(studio: Studio, people: Any) -> set[str]:
    import polars as pl

    said = studio.as_of("consent").filter(pl.col("purpose") == "personalization").sort("at", "known", "seq")
    newest = said.group_by("person", maintain_order=True).last().filter(pl.col("granted"))
    return set(newest["person"].to_list()) & set(people.to_list())


def _as_of(studio: Studio, policy: Policy, decision: str, labels: Any) -> list[dict[str, Any]]:
    """Features that a policy reads, in batch, for each label."""
    unit = studio.decision(decision).unit
    found: list[dict[str, Any]] = [{} for _ in range(len(labels))]
    for one in {f.name: f for s in policy.scorers() for f in s.needs if f.key == unit}.values():
        rows = one.batch(studio.facts, labels).select(one.names).to_dicts()
        found = [{**a, **b} for a, b in zip(found, rows, strict=True)]
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Counts by value as the online rule gives them."""
    return {
        k: {c["value"]: c["count"] for c in v} if isinstance(v, list) and v and isinstance(v[0], dict) else v
        for k, v in row.items()
    }
