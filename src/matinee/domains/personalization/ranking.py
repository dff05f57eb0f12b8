"""The ranker of the home page that learns from its own log: what was shown, where, with which probability, and what came of it.

Beside the recipe of `home`, which has only plays to learn from before anything was decided, and must guess what else the
member might have been shown. A log knows. The ranker is a lambdarank over the slots of each page, on places in the
recommenders' orders, what was shown in vain, the moment, the device and the language; it may only fall with what was shown
in vain, and only rise with the recommenders' places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import matinee as mt
from matinee.domains.personalization.features import standing
from matinee.domains.personalization.home import FLOOR, events, home, recommenders, situations, train, warmth
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.signals import MEMORIES, Language, Memory, Place, moment
from matinee.scorers import Storable

Progress = Callable[..., None]
FEWEST_PAGES = 500  # pages with a complete reward: fewer cannot tell thirty columns from noise
# Slots of one page are compared with each other, so only their places need weighing. Weighing rows by their own
# propensities as well cost more in variance than it took in bias: in the demo's world a fifth of the value of a page.
WEIGHTS = mt.LogWeights(clip=1.0, position=True)
TREES, LEAVES, FEWEST_ROWS = 60, 4, 100  # small: rewards are rare, a few hundred among tens of thousands of slots


LEARNED = 0.6  # share of the logged pages, in time, that the recipe learns from; it is judged on the others


def recipe(studio: mt.Studio, step: Progress = lambda *_a: None) -> list[str]:
    """The policies of `home`, and one that learned from the log where enough pages were logged.

    It learns from the first three fifths of the log: judge it on the rest, `studio.evaluate(home, policy, since=...)`; its
    note says since when.
    """
    names = train(studio, step)
    logged = studio.choices("home")
    if len(logged) * LEARNED >= FEWEST_PAGES:
        until = logged["at"].quantile(LEARNED, "nearest")
        assert isinstance(until, datetime)
        names.append(learn(studio, step, until=until))
    return names


def learn(
    studio: mt.Studio,
    step: Progress = lambda *_a: None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    weights: mt.LogWeights = WEIGHTS,
) -> str:
    """Train the ranker on logged home pages and save a policy that draws by it.

    Args:
        studio: Whose log.
        step: Is told what is being done.
        since, until: Which choices to learn from; judge it on others.
        weights: How the log's rows are weighted.

    Returns:
        The policy's name.

    Raises:
        MatineeError: If fewer than 500 pages of that time were logged.
    """
    logged = studio.choices("home", since=since)
    if until is not None:
        logged = logged.filter(logged["at"] < until)
    if len(logged) < FEWEST_PAGES:
        raise mt.MatineeError(
            f"{len(logged)} home pages were logged, must be at least {FEWEST_PAGES} to learn from: serve for a while, "
            "then `matinee seal`"
        )
    first = logged["at"].min()
    assert isinstance(first, datetime)
    parts = signals(studio, first, step)
    step(1, "training the ranker on the log")
    ranker = studio.train(
        home,
        mt.LightGBM(
            objective="lambdarank", trees=TREES, leaves=LEAVES, min_rows=FEWEST_ROWS, l2=5.0,
            monotone={f"score.{n}": -1 if n.endswith("in_vain") else 1 for n, p in parts.items() if _sign(p)},
        ),
        on=[standing, moment, *parts.values()],
        name="home-order",
        context=["device"],
        clock=True,
        weights=weights,
        since=since,
        until=until,
    )  # fmt: skip
    members = logged["unit"].cast(int, strict=False).drop_nulls().unique().sort().to_list()
    step(1, "choosing how warm to draw")
    warm = warmth(ranker, situations(studio, members, needs=ranker.needs))
    last = until or logged["at"].max()
    assert isinstance(last, datetime)
    return studio.save_policy(
        home,
        mt.Softmax(ranker, temperature=warm, floor=FLOOR),
        note=f"the ranker that learned from the log; judge it on choices since {last:%Y-%m-%dT%H:%M:%SZ}",
    )


def signals(studio: mt.Studio, before: datetime, step: Progress = lambda *_a: None) -> Mapping[str, Storable]:
    """What the ranker reads of member and title together, kept in the studio under these names.

    The recommenders are fitted on what happened before the log begins: a page must not be explained by its own plays.
    """
    import polars as pl

    source = studio.source(home)
    told = events(source).filter(pl.col("at") < before)
    histories = Histories.of(told)
    made: dict[str, Storable] = {}
    for name, one in recommenders().items():
        step(1, f"fitting {name}")
        made[f"home-place-{name}"] = Place(one.fit(histories))
    made |= {f"home-{what}": Memory(what) for what in MEMORIES}
    made["home-language"] = Language()
    for name, scorer in made.items():
        kind = {"learner": scorer.kind, "decision": "home"}
        studio.keep(name, scorer, facts=source if isinstance(scorer, Place) else (), record=kind)
    return made


def _sign(part: Storable) -> bool:
    return isinstance(part, Place) or (isinstance(part, Memory) and part.what == "in_vain")
