"""What every recommender promises, tried out on anybody's.

    from matinee.domains.personalization.recommenders.conformance import check_recommender
    check_recommender(lambda: MyRecommender())    # raises AssertionError with a sentence at the first broken promise

Each check takes a function that makes a recommender not yet fitted, and a generator.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders.base import Recommender, load_recommender
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.testing.running import expect, run

Array = np.ndarray[Any, Any]
Make = Callable[[], Recommender]
Check = Callable[[Make, np.random.Generator], None]
UNKNOWN = 10**12


def example_histories(rng: np.random.Generator, members: int = 60, titles: int = 24, longest: int = 30) -> Histories:
    """Histories with structure: each member stays in one half of the catalogue and moves to near titles.

    No title is repeated at once, ids have gaps, and lengths run from 2 to `longest`.
    """
    ids = np.sort(rng.choice(1000, titles, replace=False)) + 1
    sequences = []
    for m in range(members):
        half = np.arange(titles // 2) + (m % 2) * (titles // 2)
        at, walk = int(rng.integers(len(half))), []
        for _ in range(int(rng.integers(2, longest))):
            walk.append(int(ids[half[at]]))
            at = (at + int(rng.integers(1, 4))) % len(half)
        sequences.append(walk)
    return Histories.of_sequences(sequences)


def scores_are_one_finite_float32_a_title(make: Make, rng: np.random.Generator) -> None:
    """Titles are sorted and known from the histories; a score of each, float32, finite, whatever the history."""
    histories = example_histories(rng)
    one = make().fit(histories)
    expect(bool((np.diff(one.titles) > 0).all()), "titles are not sorted and distinct")
    expect(bool(np.isin(one.titles, histories.titles).all()), "it knows titles that no history holds")
    for history in awkward(one.titles):
        scores = one.scores(history)
        expect(scores.dtype == np.float32, f"scores gave {scores.dtype}, must give float32")
        expect(scores.shape == one.titles.shape, f"scores gave shape {scores.shape}, must give {one.titles.shape}")
        expect(bool(np.isfinite(scores).all()), f"a score of a history of {len(history)} events is not finite")


def unknown_titles_are_ignored(make: Make, rng: np.random.Generator) -> None:
    """A title that no history held has no influence on the scores."""
    one = make().fit(example_histories(rng))
    history = one.titles[:4].tolist()
    mixed = [UNKNOWN, history[0], UNKNOWN + 1, *history[1:], UNKNOWN]
    expect(same(one.scores(history), one.scores(mixed)), "unknown titles in a history change the scores")


def a_batch_agrees_with_single_calls(make: Make, rng: np.random.Generator) -> None:
    """`scores_of` gives row by row what `scores` gives, in any order of rows, in a catalogue other than its own."""
    one = make().fit(example_histories(rng))
    others = Histories.of_sequences([np.asarray(h, np.int64) for h in awkward(one.titles)])
    rows = rng.permutation(len(others))
    table = one.scores_of(others, rows)
    expect(table.dtype == np.float32, f"scores_of gave {table.dtype}, must give float32")
    expect(table.shape == (len(rows), len(one.titles)), f"scores_of gave shape {table.shape}")
    for row, found in zip(rows.tolist(), table, strict=True):
        want = one.scores(others.history(row))
        expect(same(found, want), f"the batch differs from a single call for {len(others.history(row))} events")
    own = Histories.of_sequences([*awkward(one.titles)[:5], one.titles.tolist()])
    before = own.items.copy(), own.offsets.copy()
    one.scores_of(own)  # in its own catalogue, with titles that come again
    unchanged = np.array_equal(before[0], own.items) and np.array_equal(before[1], own.offsets)
    expect(unchanged, "scores_of changed the histories it was asked about")
    expect(one.scores_of(others, rows[:0]).shape == (0, len(one.titles)), "no rows must give no rows")
    expect(same(one.scores_of(others), one.scores_of(others, np.arange(len(others)))), "rows=None must mean all rows")


def recommendations_are_the_best_unseen(make: Make, rng: np.random.Generator) -> None:
    """`recommend` gives the largest scores, none of them seen, distinct, best first; nothing where all were seen."""
    histories = example_histories(rng)
    one = make().fit(histories)
    history = histories.history(0)
    for exclude in (True, False):
        titles, scores = one.recommend(history, 5, exclude_seen=exclude)
        expect(len(titles) == len(scores) == len(set(titles.tolist())), "recommended titles are not distinct")
        expect(bool((np.diff(scores) <= 0).all()), "recommendations are not ordered by score")
        every = one.scores(history)
        left = every[~np.isin(one.titles, history)] if exclude else every
        expect(same(scores, np.sort(left)[::-1][:5]), "recommendations are not the largest scores")
        expect(not exclude or not np.isin(titles, history).any(), "a seen title is recommended")
    few, _ = one.recommend(history, 10**6)
    expect(len(few) == len(one.titles) - len(np.intersect1d(one.titles, history)), "more was asked than there is")
    none, scores = one.recommend(one.titles, 5)
    expect(len(none) == len(scores) == 0, "titles are recommended to somebody who has seen all")
    expect(len(one.recommend([], 5)[0]) == min(5, len(one.titles)), "nothing for an empty history")


def similar_titles_are_others(make: Make, rng: np.random.Generator) -> None:
    """`similar` never gives the title itself, and refuses one it does not know."""
    one = make().fit(example_histories(rng))
    titles, scores = one.similar(int(one.titles[0]), 5)
    expect(len(titles) == len(scores) <= 5, "similar gave other than k titles and scores")
    expect(int(one.titles[0]) not in titles.tolist(), "a title is similar to itself")
    try:
        one.similar(UNKNOWN, 5)
    except mt.MatineeError:
        return
    raise AssertionError("similar accepts a title that is not known")


def contributions_drive_the_score(make: Make, rng: np.random.Generator) -> None:
    """A contribution names a title of the history, largest first; without the first one the score falls."""
    histories = example_histories(rng)
    one = make().fit(histories)
    fell = 0
    for row in range(8):
        history = histories.history(row)
        title = int(one.recommend(history, 1)[0][0])
        found = one.explain(history, title)
        expect(all(t in history for t, _ in found), "a contribution names a title that is not in the history")
        expect([v for _, v in found] == sorted((v for _, v in found), reverse=True), "contributions are not ordered")
        if not found or found[0][1] <= 0:
            fell += 1
            continue
        at = int(np.searchsorted(one.titles, title))
        without = history[history != found[0][0]]
        fell += bool(one.scores(without)[at] < one.scores(history)[at])
    # Taking a title out moves the others nearer, which may outweigh it now and then; as a rule the score falls.
    expect(fell >= 6, f"in {8 - fell} of 8 histories the score does not fall without its largest contribution")
    expect(one.explain([], int(one.titles[0])) == [], "an empty history contributes something")
    expect(one.explain(one.titles[:2], UNKNOWN) == [], "something contributes to a title that is not known")


def an_update_knows_the_new_titles(make: Make, rng: np.random.Generator) -> None:
    """After `update` new members and titles are known, and the scores are those of a fit on everything."""
    histories = example_histories(rng)
    newer = [[int(histories.titles[0]), 5000, int(histories.titles[1]), 5000 + m % 2] for m in range(8)]
    later = Histories.of_sequences(newer, members=list(range(len(histories), len(histories) + 8)))
    later = Histories(later.titles, later.items, later.offsets, later.members, later.day + 1000.0)
    one = make().fit(histories).update(later)
    want = make().fit(histories.joined(later))
    expect(bool(np.isin([5000, 5001], one.titles).all()), "a title that came with an update is not known")
    expect(np.array_equal(one.titles, want.titles), "an update and a fit on everything know other titles")
    for row in (0, 3):
        history = histories.history(row)
        expect(same(one.scores(history), want.scores(history)), "an update differs from a fit on everything")


def the_same_histories_give_the_same_model(make: Make, rng: np.random.Generator) -> None:
    """Fitting twice, or again over an older fit, gives the same scores; the histories stay as they were."""
    histories = example_histories(rng)
    before = histories.items.copy(), histories.offsets.copy(), histories.day.copy()
    one, other = make().fit(histories), make().fit(example_histories(rng)).fit(histories)
    expect(np.array_equal(one.titles, other.titles), "an older fit shows through")
    history = histories.history(1)
    expect(same(one.scores(history), other.scores(history)), "the same histories give other scores")
    unchanged = all(
        np.array_equal(a, b) for a, b in zip(before, (histories.items, histories.offsets, histories.day), strict=True)
    )
    expect(unchanged, "fit changed the histories")


def a_saved_model_scores_the_same(make: Make, rng: np.random.Generator) -> None:
    """Saved and loaded, by its class or by its kind alone, the scores are the same to the bit."""
    histories = example_histories(rng)
    one = make().fit(histories)
    with tempfile.TemporaryDirectory() as folder:
        one.save(Path(folder) / "m")
        for again in (type(one).load(Path(folder) / "m"), load_recommender(Path(folder) / "m")):
            expect(type(again) is type(one), f"it was loaded as {type(again).__name__}")
            for history in awkward(one.titles):
                expect(np.array_equal(again.scores(history), one.scores(history)), "a loaded model scores otherwise")


def a_repr_is_short(make: Make, rng: np.random.Generator) -> None:
    """A repr says what it is in a line, not its arrays."""
    text = repr(make().fit(example_histories(rng)))
    expect(len(text) <= 200 and "\n" not in text, "the repr must be one line of at most 200 characters")


def awkward(titles: Array) -> list[list[int]]:
    """Histories that happen: none, one event, one title many times, all titles, unknown ones only, very long."""
    few = titles[:3].tolist()
    return [
        [], few[:1], few[:1] * 5, few, few[::-1] * 3, [UNKNOWN], [UNKNOWN, *few[:2]], titles.tolist(),
        np.resize(titles, 50_000).tolist(),
    ]  # fmt: skip


def same(a: Array, b: Array) -> bool:
    """Equal up to float32 rounding."""
    return a.shape == b.shape and bool(
        np.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(b).max(initial=0))))
    )


def yield_recommender_checks() -> Iterator[Check]:
    """Every check, one promise each."""
    yield scores_are_one_finite_float32_a_title
    yield unknown_titles_are_ignored
    yield a_batch_agrees_with_single_calls
    yield recommendations_are_the_best_unseen
    yield similar_titles_are_others
    yield contributions_drive_the_score
    yield an_update_knows_the_new_titles
    yield the_same_histories_give_the_same_model
    yield a_saved_model_scores_the_same
    yield a_repr_is_short


def check_recommender(make: Make, rng: np.random.Generator | None = None) -> None:
    """Run every check.

    Args:
        make: Gives a recommender that is not fitted, the same each time.
        rng: Where the example histories come from.

    Raises:
        AssertionError: At the first broken promise, in a sentence.

    Example:
        >>> from matinee.domains.personalization.recommenders import Popular
        >>> check_recommender(Popular)
    """
    run(yield_recommender_checks(), make, rng, label=repr(make()))
