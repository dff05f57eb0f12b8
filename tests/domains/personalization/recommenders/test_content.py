"""Content: likeness of descriptions, the blend with learned vectors by hand, and titles nobody has watched."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.conformance import check_recommender, example_histories
from matinee.domains.personalization.recommenders.content import Content, Descriptions
from matinee.domains.personalization.recommenders.factors import Factors

GENRES = [["War"], ["War", "Drama"], ["Comedy"], ["Comedy", "Romance"], None, ["War"]]


def catalogue() -> pl.DataFrame:
    names = ["A Bridge", "The Bridge Again", "Laughs", "Laughs and Love", "", "Nobody Saw This Bridge"]
    return pl.DataFrame({"title": [1, 2, 3, 4, 5, 6], "name": names, "genres": GENRES})


def test_titles_of_the_same_genres_and_words_are_alike() -> None:
    found = Descriptions.of(catalogue(), fewest=1)
    likeness = found.vectors @ found.vectors.T
    assert np.diag(likeness)[[0, 1, 2, 3, 5]] == pytest.approx(1.0, abs=1e-5)
    assert not found.vectors[4].any()  # nothing is known about it
    assert likeness[0, 1] > 0.3 > likeness[0, 2] + 0.2
    assert likeness[2, 3] > 0.3


def test_tags_and_other_fields_count_each_apart() -> None:
    rows = pl.DataFrame(
        {"title": [1, 2, 3, 4], "language": ["war", "en", "en", "war"], "year": [1951, 1959, 2001, 2002]}
    )
    tags = pl.DataFrame({"title": [1, 2, 9], "tag": [" War ", "war", "war"]})
    likeness = (lambda v: v @ v.T)(Descriptions.of(rows, tags, fewest=1).vectors)
    assert likeness[0, 1] > likeness[0, 2] + 0.2  # the same tag, however written, and the same decade
    alone = Descriptions.of(rows.select("title", "language"), tags, fewest=1).vectors
    assert float(alone[1] @ alone[3]) == pytest.approx(0.0, abs=1e-6)  # the tag "war" is not the language "war"


def test_words_that_only_one_title_has_say_nothing() -> None:
    found = Descriptions.of(catalogue().select("title", "name"))
    assert found.vectors[[0, 1]].any(axis=1).all()
    assert not Descriptions.of(catalogue().select("title", "name").head(1)).vectors.any()


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 80))
def test_the_order_of_rows_has_no_influence(order: list[int], width: int) -> None:
    found = Descriptions.of(catalogue()[order], width=width)
    want = Descriptions.of(catalogue(), width=width)
    assert found.titles.tolist() == want.titles.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.allclose(found.vectors @ found.vectors.T, want.vectors @ want.vectors.T, atol=1e-4)
    assert found.vectors.shape[1] <= width


def test_a_large_catalogue_takes_the_sparse_way_and_agrees_with_the_dense_one() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{k}" * 2 for k in range(120)]
    rows = pl.DataFrame(
        {"title": range(300), "genres": [rng.choice(words, 5, replace=False).tolist() for _ in range(300)]}
    )
    few, again = Descriptions.of(rows, width=20), Descriptions.of(rows, width=20)
    assert np.array_equal(few.vectors, again.vectors)
    every = Descriptions.of(rows, width=200).vectors
    assert few.vectors.shape == (300, 20)
    a, b = (few.vectors @ few.vectors.T).ravel(), (every @ every.T).ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.6


def walks() -> Histories:
    return example_histories(np.random.default_rng(0))


def test_a_vector_is_learned_in_proportion_to_its_plays() -> None:
    histories = walks()
    learned = Factors(width=4, sweeps=3).fit(histories)
    described = np.append(histories.titles, 5000)
    features = np.random.default_rng(1).normal(size=(len(described), 3)).astype(np.float32)
    model = Content.about(Descriptions(described, features), width=4, sweeps=3, plays=7.0, shrink=2.0).fit(histories)
    n = np.bincount(histories.items).astype(float)
    x = np.column_stack([features[:-1], np.ones(len(n))])
    told = np.linalg.solve((x * n[:, None]).T @ x + 2.0 * np.eye(4), (x * n[:, None]).T @ learned.vectors)
    share = (n / (n + 7.0))[:, None]
    assert model.titles.tolist() == described.tolist()
    assert model.vectors[:-1] == pytest.approx(share * learned.vectors + (1 - share) * (x @ told), abs=1e-4)
    assert model.vectors[-1] == pytest.approx(np.append(features[-1], 1) @ told, abs=1e-4)


def test_without_descriptions_it_is_factors() -> None:
    histories = walks()
    one, other = Content(width=4, sweeps=2).fit(histories), Factors(width=4, sweeps=2).fit(histories)
    assert np.array_equal(one.vectors, other.vectors)


def test_a_title_nobody_has_watched_goes_to_those_who_like_its_kind() -> None:
    rng = np.random.default_rng(2)
    halves = [np.arange(0, 30), np.arange(30, 60)]
    sequences = [rng.permutation(halves[m % 2])[:12] for m in range(80)]
    genre = [["War"] if t < 30 else ["Comedy"] for t in range(60)]
    rows = pl.DataFrame({"title": [*range(60), 100, 101], "genres": [*genre, ["War"], ["Comedy"]]})
    model = Content.about(Descriptions.of(rows), width=8, sweeps=5).fit(Histories.of_sequences(sequences))
    war, comedy = (model.scores(h[:6])[-2:] for h in halves)
    assert war[0] > war[1] + 0.1
    assert comedy[1] > comedy[0] + 0.1
    # It is in the middle of what such a member has not seen yet, not at the end.
    titles, _ = model.recommend(halves[0][:6], 30)
    assert 100 in titles.tolist()
    assert model.alike(100, 3)[0][1] == pytest.approx(1.0, abs=1e-5)
    assert {t < 30 for t, _ in model.alike(100, 20)} == {True}
    # One play of a new title moves a member without a history.
    assert model.scores([100])[0] > model.scores([100])[40]


def test_it_keeps_the_promises_of_a_recommender() -> None:
    check_recommender(lambda: Content(width=8, sweeps=3))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(mt.MatineeError, match="plays == 0.0, must be > 0"):
        Content(plays=0.0)
    with pytest.raises(mt.MatineeError, match="width == 0, must be >= 1"):
        Descriptions.of(catalogue(), width=0)
