"""The home page: candidates from the recommenders, a ranker, guards, exploration; how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.facts import Licence, Opened, Played, Rated, Shown, Title
from matinee.domains.personalization.features import profile, standing, taste
from matinee.domains.personalization.recommenders import Following, Histories, Popular, Recommender, Together
from matinee.domains.personalization.signals import MEMORIES, Memory, Place
from matinee.domains.personalization.wishes import Unhidden

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[..., None]
QUALIFIED = 1200  # seconds: a play of twenty minutes or more was meant
PERIOD = 0.6  # share of the events, in time, that the recommenders of the ranker's own training may see
MOST_LABELS = 2000
EFFECTIVE = 60.0  # titles that a slot is drawn from, in effect: pages of ten need that much overlap to be judged
FLOOR = 0.1  # share of the draw spread over everything allowed
FEWEST_PAGES = 100  # pages that brought a play: with fewer the ranker learns from plays alone
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
        Unhidden(),
        mt.cap(6, Shown.title, "7d"),
        mt.at_most(3, per="provider"),
    ],
    consent="personalization",
    sheltered="kids",
    description="Titles for a member's home page, best first",
)


def events(source: Any) -> pl.DataFrame:
    """Plays, openings and ratings as `member`, `title`, `at` in order of appending; of those who allow it, from `studio.source`."""
    import polars as pl

    columns = ["member", "title", "at", "seq"]
    rows: pl.LazyFrame = pl.concat([source.scan(one, columns) for one in (Rated, Opened, Played)])
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
    labels = Labels(before, cut, [p for n, p in parts.items() if n != "popular"])
    step(1, "training the ranker")
    # Places, not scores: fitted again on everything, the recommenders' scores are on another scale.
    places = {n: Place(p, f"home-place-{n}@0") for n, p in parts.items()}
    vain = [Memory(what) for what in MEMORIES]
    for memory in vain:
        told = {"learner": memory.kind, "decision": "home"}
        studio.keep(f"home-{memory.what}", memory, record=told)
    ranker = studio.train(
        home,
        mt.LightGBM(objective="lambdarank", trees=60, leaves=4, min_rows=100),
        on=[standing, *places.values(), *vain],
        labels=labels,
        clock=True,
        dry=True,
    )
    everything = Histories.of(every)
    placed: dict[str, Place] = {}
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
        placed[f"home-place-{name}"] = Place(kept)
        studio.keep(
            f"home-place-{name}",
            placed[f"home-place-{name}"],
            uses=[f"model://{kept.name}"],
            record={"decision": "home"},
        )
    ranker.parts = {**placed, **{f"home-{memory.what}": memory for memory in vain}}
    record = {
        "learner": "gradient-boosting",
        "labels": f"plays after {cut:%Y-%m-%d}, beside {SAMPLED} not played",
        "decision": "home",
    }
    uses = [f"model://{p.name}" for p in ranker.parts.values()]
    uses += [f"features://{f.name}@{f.hash[:10]}" for f in (standing, *ranker.needs)]
    studio.keep("home-ranker", ranker, facts=source, uses=uses, record=record)
    # Warm enough that each can later be judged on the log of another: a cold policy meets too few of its own pages.
    baseline = mt.Mixture({mt.Softmax(parts["popular"], temperature=0.7): 0.7, mt.Uniform(): 0.3})
    step(1, "choosing how warm to draw")
    some = situations(studio, every["member"].unique().sort().to_list(), needs=ranker.needs)
    challenger = mt.Softmax(ranker, temperature=warmth(ranker, some), floor=FLOOR)
    following = mt.Softmax(parts["following"], temperature=warmth(parts["following"], some), floor=FLOOR)
    return [
        studio.save_policy(home, baseline, note="popularity, explored: the baseline"),
        studio.save_policy(home, following, note="what is played after what"),
        studio.save_policy(home, challenger, note="the ranker over all candidates"),
    ]


def situations(
    studio: mt.Studio, members: Sequence[int], most: int = 40, needs: Sequence[mt.Features] = (taste,)
) -> list[tuple[mt.Request, mt.Candidates]]:
    """Requests of some members as of now, with the features named, each with the candidates that would be drawn from."""
    import polars as pl

    now = studio.clock()
    _, candidates = studio.sample_request("home", most=10**9)
    chosen = np.random.default_rng(0).permutation(np.array(members))[:most].tolist()
    labels = pl.DataFrame(
        {"member": chosen, "at": [now] * len(chosen)}, schema_overrides={"at": pl.Datetime("us", "UTC")}
    )
    wanted = {one.name: one for one in needs if one.key == "member"}.values()
    rows = pl.concat([one.batch(studio.facts, labels).select(one.names) for one in wanted], how="horizontal").to_dicts()
    return [
        (mt.Request("home", member, now, {}, features), candidates)
        for member, features in zip(chosen, rows, strict=True)
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
    """What the ranker learns from, after `cut`: pages that were shown and brought a play, where a service knows its pages.

    Where it does not, as in public sets of ratings: the title played next beside candidates that were not, which the
    member may never have been offered. A ranker learns from those what is popular, and little more. At most one moment a
    member and day, so that nobody's marathon outweighs the others.
    """

    def __init__(self, before: Histories, cut: datetime, proposing: Sequence[Recommender]) -> None:
        self.before, self.cut, self.proposing = before, cut, proposing

    def __call__(self, source: Any) -> pl.DataFrame:
        """Rows `unit`, `at`, `action`, `y`, `group`."""
        import polars as pl

        pages = self._pages(source)
        if pages["group"].n_unique() >= FEWEST_PAGES:
            return pages
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

    def _pages(self, source: Any) -> pl.DataFrame:
        """Titles shown together to a member who allows it, and which of them were played, of pages that brought a play."""
        import polars as pl

        shown = source.scan(Shown, ["member", "title", "at"]).filter(_at() >= self.cut)
        plays = source.scan(Played, ["member", "title", "seconds", "at"]).filter(pl.col("seconds") >= QUALIFIED)
        # A play belongs to the last page before it that showed its title.
        played = (
            plays.filter(_at() >= self.cut).sort("at").select("member", "title", play="at").collect()
            .join_asof(
                shown.select("member", "title", "at").sort("at").collect(), left_on="play", right_on="at",
                by=["member", "title"], strategy="backward", tolerance="48h", check_sortedness=False,
            )
            .drop_nulls("at").select("member", "title", "at").unique()
        )  # fmt: skip
        rows = shown.unique().collect().join(played.with_columns(y=1.0), on=["member", "title", "at"], how="left")
        rows = rows.with_columns(
            pl.col("y").fill_null(0.0), group=pl.struct("member", "at").rank("dense").cast(pl.Int64)
        )
        rows = rows.filter((pl.col("y").sum() > 0).over("group"))
        groups = rows["group"].unique().sort()
        some = groups.sample(MOST_LABELS, seed=0) if len(groups) > MOST_LABELS else groups
        labelled: pl.DataFrame = (
            rows.filter(pl.col("group").is_in(some.implode()))
            .sort("group", "title")
            # A moment before the page: nothing of it may be in the features.
            .select(
                pl.col("member").alias("unit"),
                _at() - pl.duration(microseconds=1),
                pl.col("title").alias("action"),
                "y",
                "group",
            )
        )
        return labelled


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
        found = part.explain(seen, title)
        if found and found[0][1] > 0:
            because = found[0][0]
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
