"""The home page: candidates from the recommenders, a ranker, guards, exploration; how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.facts import Licence, Played, Rated, Shown, Title
from matinee.domains.personalization.features import profile, standing, taste
from matinee.domains.personalization.recommenders import Following, Histories, Popular, Recommender, Together

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[..., None]
QUALIFIED = 1200  # seconds: a play of twenty minutes or more was meant
PERIOD = 0.9  # share of the events, in time, that the recommenders of the ranker's own training may see
MOST_LABELS = 2000
EFFECTIVE = 60.0  # titles that a slot is drawn from, in effect: pages of ten need that much overlap to be judged
FLOOR = 0.1  # share of the draw spread over everything allowed
SAMPLED = 40  # candidates not chosen, beside each chosen one


class Profiled(mt.maturity):
    """The maturity guard, with the member's own limit."""

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's profile."""
        return [profile]


home = mt.Decision(
    "home",
    title="Home page ranking",
    unit="member",
    among="title",
    slots=10,
    reward=mt.did(Played, within="48h", where=Played.seconds >= QUALIFIED),
    reward_unit="qualified plays",
    guards=[
        mt.licensed(Licence, territory="territory"),
        Profiled(),
        mt.cap(6, Shown.title, "7d"),
        mt.at_most(3, per="provider"),
    ],
    consent="personalization",
    description="Titles for a member's home page, best first",
)


def events(source: Any) -> pl.DataFrame:
    """Plays and ratings as `member`, `title`, `at` in order of appending; of members who allow it, from `studio.source`."""
    import polars as pl

    columns = ["member", "title", "at", "seq"]
    rows: pl.LazyFrame = pl.concat([source.scan(Rated, columns), source.scan(Played, columns)])
    return rows.sort("at", "seq").select("member", "title", "at").collect()


def recommenders() -> dict[str, Recommender]:
    """The candidate sources, not yet fitted."""
    return {
        "popular": Popular(),
        "fresh": Popular(half_life=14.0),
        "following": Following(),
        "together": Together(),
    }


def train(studio: mt.Studio, step: Progress = lambda *_a: None) -> list[str]:
    """Fit the recommenders and the ranker; returns the policies, the baseline first.

    The ranker learns on the last tenth of time from recommenders that have not seen it; for serving the recommenders
    are fitted again on everything.
    """
    source = studio.source(home)
    every = events(source)
    cut = _quantile(every, PERIOD)
    before = Histories.of(every.filter(_at() < cut))
    parts: dict[str, Recommender] = {}
    for name, one in recommenders().items():
        step(1, f"fitting {name}")
        parts[name] = one.fit(before)
        parts[name].name = f"home-{name}@0"
    labels = Labels(before, cut, [p for n, p in parts.items() if n != "popular"])
    step(1, "training the ranker")
    ranker = studio.train(
        home,
        mt.LightGBM(objective="binary", trees=60, leaves=15, min_rows=40),
        on=[taste, standing, *parts.values()],
        labels=labels,
        clock=True,
        dry=True,
    )
    everything = Histories.of(every)
    for name, one in recommenders().items():
        step(1, f"fitting {name} on everything")
        kept = one.fit(everything)
        studio.keep(
            f"home-{name}",
            kept,
            facts=source,
            record={"learner": one.kind, "events": len(every), "decision": "home"},
        )
        parts[name] = kept
    ranker.parts = {f"home-{n}" if f"home-{n}" in ranker.parts else n: p for n, p in parts.items()}
    record = {
        "learner": "gradient-boosting",
        "labels": f"plays after {cut:%Y-%m-%d}, beside {SAMPLED} not played",
        "decision": "home",
    }
    uses = [f"model://{p.name}" for p in parts.values()]
    uses += [f"features://{f.name}@{f.hash[:10]}" for f in (taste, standing)]
    studio.keep("home-ranker", ranker, facts=source, uses=uses, record=record)
    # Warm enough that each can later be judged on the log of another: a cold policy meets too few of its own pages.
    baseline = mt.Mixture({mt.Softmax(parts["popular"], temperature=0.7): 0.7, mt.Uniform(): 0.3})
    step(1, "choosing how warm to draw")
    some = situations(studio, every["member"].unique().sort().to_list())
    challenger = mt.Softmax(ranker, temperature=warmth(ranker, some), floor=FLOOR)
    following = mt.Softmax(parts["following"], temperature=warmth(parts["following"], some), floor=FLOOR)
    return [
        studio.save_policy(home, baseline, note="popularity, explored: the baseline"),
        studio.save_policy(home, following, note="what is played after what"),
        studio.save_policy(home, challenger, note="the ranker over all candidates"),
    ]


def situations(studio: mt.Studio, members: Sequence[int], most: int = 40) -> list[tuple[mt.Request, mt.Candidates]]:
    """Requests of some members as of now, each with the candidates that would be drawn from."""
    import polars as pl

    now = studio.clock()
    _, candidates = studio.sample_request("home", most=10**9)
    chosen = np.random.default_rng(0).permutation(np.array(members))[:most].tolist()
    labels = pl.DataFrame({"member": chosen, "at": [now] * len(chosen)}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    rows = taste.batch(studio.facts, labels).select(taste.names).to_dicts()
    return [
        (mt.Request("home", member, now, {}, features), candidates) for member, features in zip(chosen, rows, strict=True)
    ]


def warmth(scorer: Any, some: Sequence[tuple[mt.Request, mt.Candidates]], titles: float = EFFECTIVE) -> float:
    """The temperature at which the first slot is drawn as if from so many titles (the mean perplexity of the draw).

    A policy as warm as that can be judged on the log of another; a colder one meets too few of its own choices there.
    """
    scores = []
    for request, candidates in some:
        proposed = scorer.propose(request, candidates)
        scores.append(scorer.score(request, candidates if proposed is None else candidates.take(proposed)).mean)
    titles = min(titles, 0.5 * min(len(s) for s in scores))

    def perplexity(temperature: float) -> float:
        total = 0.0
        for s in scores:
            w = np.exp((s - s.max()) / temperature)
            p = w[w > 0] / w.sum()
            total += float(np.exp(-(p * np.log(p)).sum()))
        return total / len(scores)

    spread = max(float(np.mean([s.max() - s.min() for s in scores])), 1e-9)
    low, high = 1e-4 * spread, 10 * spread
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if perplexity(middle) < titles else (low, middle)
    return float(f"{high:.2g}")


class Labels:
    """What the ranker learns from: after `cut`, the title played next beside candidates that were not.

    At most one moment a member and day, so that nobody's marathon outweighs the others.
    """

    def __init__(self, before: Histories, cut: datetime, proposing: Sequence[Recommender]) -> None:
        self.before, self.cut, self.proposing = before, cut, proposing

    def __call__(self, source: Any) -> pl.DataFrame:
        """Rows `unit`, `at`, `action`, `y`, `group`."""
        import polars as pl

        rng = np.random.default_rng(0)
        after = events(source).filter(_at() >= self.cut)
        known = after.filter(pl.col("title").is_in(pl.Series(self.before.titles).implode()))
        firsts = (
            known.group_by("member", pl.col("at").dt.date().alias("day"), maintain_order=True)
            .first()
            .sort("at", "member")
        )
        if len(firsts) > MOST_LABELS:
            firsts = firsts.sample(MOST_LABELS, seed=0).sort("at", "member")
        popularity = np.bincount(self.before.items, minlength=len(self.before.titles)).astype(np.float64) + 1
        chance = popularity**0.5 / (popularity**0.5).sum()
        histories = _prefixes(self.before)
        rows: dict[str, list[Any]] = {"unit": [], "at": [], "action": [], "y": [], "group": []}
        for g, (member, at, title) in enumerate(firsts.select("member", "at", "title").iter_rows()):
            seen = histories.get(member, [])
            some = min(SAMPLED // 2, len(self.before.titles))
            pool: set[int] = set(rng.choice(self.before.titles, some, replace=False, p=chance).tolist())
            for one in self.proposing:
                best = np.argsort(-one.scores(seen))[:60]
                pool |= set(rng.choice(one.titles[best], min(SAMPLED // 4, len(best)), replace=False).tolist())
            others = sorted(pool - set(seen) - {title})
            for action, y in [(title, 1.0), *((o, 0.0) for o in others)]:
                rows["unit"].append(str(member))
                # A moment before the play: nothing of it may be in the features.
                rows["at"].append(at)
                rows["action"].append(action)
                rows["y"].append(y)
                rows["group"].append(g)
        frame = pl.DataFrame(rows, schema_overrides={"at": pl.Datetime("us", "UTC")})
        return frame.with_columns(pl.col("at") - pl.duration(microseconds=1), pl.col("unit").cast(pl.Int64))


def _prefixes(histories: Histories) -> dict[int, list[int]]:
    titles, items, offsets = histories.titles, histories.items, histories.offsets
    return {
        int(m): titles[items[offsets[i] : offsets[i + 1]]].tolist()[-100:]
        for i, m in enumerate(histories.members.tolist())
    }


def _quantile(rows: pl.DataFrame, share: float) -> datetime:
    import polars as pl

    cut = rows.select(pl.col("at").quantile(share, "nearest")).item()
    assert isinstance(cut, datetime)
    return cut


def _at() -> pl.Expr:
    import polars as pl

    return pl.col("at")


def reason(studio: mt.Studio, features: dict[str, Any], title: int, parts: dict[str, Recommender]) -> str:
    """Why a title is shown, in words a member understands: from the part that truly put it there."""
    from matinee.domains.personalization.features import recent

    seen = recent(features)
    for name in ("following", "together"):
        part = parts.get(name)
        if part is None or not seen:
            continue
        at, known = part._positions(np.array([title]))
        if not known[0]:
            continue
        back = part._known(seen)
        pull = part.weights[back, at[0]]  # type: ignore[attr-defined]
        if len(pull) and float(pull.max()) > 0:
            because = int(part.titles[back[int(pull.argmax())]])
            return f"because you watched {names(studio, [because]).get(because, because)}"
    return "popular with members now"


def why(studio: mt.Studio, request: mt.Request, title: Any) -> str:
    """The reason line of a title on a member's page; nothing is said to a member who did not allow profiling."""
    found = {n: studio.scorer(f"home-{n}") for n in ("following", "together") if studio.shelf.newest(f"home-{n}")}
    parts = {n: p for n, p in found.items() if isinstance(p, Recommender)}
    return reason(studio, dict(request.features), int(title), parts)


def names(studio: mt.Studio, ids: Sequence[int]) -> dict[int, str]:
    """Names of titles: as they were published for serving, which reads no table; from the facts where they were not."""
    import polars as pl

    wanted = np.array(list(ids), np.int64)
    served = studio.live.candidates(home.name)
    found: dict[int, str] = {}
    if len(served) and len(wanted):
        place = np.searchsorted(served.ids, wanted).clip(max=len(served) - 1)  # ids are published in order
        there = served.ids[place] == wanted
        called = zip(wanted[there].tolist(), served.columns["name"][place[there]].tolist(), strict=True)
        found = {i: name for i, name in called if name}
    missing = [i for i in wanted.tolist() if i not in found]
    if missing:
        rows = studio.as_of(Title).filter(pl.col("title").is_in(missing))
        found |= dict(zip(rows["title"].to_list(), rows["name"].to_list(), strict=True))
    return found
