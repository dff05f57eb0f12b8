"""Titles nobody has watched: vectors from what is known about a title, blended with learned ones as plays come in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.recommenders.base import largest_first
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
WIDTH = 64  # dimensions of a description
FEWEST = 2  # titles that share a word, or it says nothing about likeness
_WORD = re.compile(r"[^\W_]{3,}")
_EMPTY = {"the", "and", "for", "with", "from", "that", "this", "his", "her", "its", "are", "was", "who", "how", "you"}


class Descriptions(NamedTuple):
    """What is known about titles, as vectors of length one.

    Attributes:
        titles: Ids, sorted, shape (titles,).
        vectors: Shape (titles, at most 64), float32; zeros for a title about which nothing is known.
    """

    titles: Array
    vectors: Array

    @classmethod
    def of(
        cls, titles: pl.DataFrame, tags: pl.DataFrame | None = None, *, width: int = WIDTH, fewest: int = FEWEST
    ) -> Self:
        """From rows of titles and of tags put on them.

        Genres, language, provider, kind, decade, tags and the words of the name and of a description count as words of
        one text (each kind apart), weighed by how rare they are (TF-IDF), the field's share of a title's text being the
        same for all; then the leading directions of that table (truncated SVD).

        Args:
            titles: Rows with `title`, and any of `name`, `description`, `genres` (list), `year`, `kind`, `language`,
                `provider`.
            tags: Rows `title`, `tag`.
            width: Dimensions at most.
            fewest: Titles that must share a word.

        Example:
            >>> import polars as pl
            >>> rows = {"title": [1, 2, 3], "genres": [["War"], ["War", "Drama"], ["Comedy"]]}
            >>> found = Descriptions.of(pl.DataFrame(rows), fewest=1)
            >>> likeness = found.vectors @ found.vectors.T
            >>> bool(likeness[0, 1] > likeness[0, 2] + 0.3)
            True
        """
        from scipy.sparse import csr_array

        must(width, "width", typ=int, ge=1)
        rows = titles.unique("title", keep="last", maintain_order=True).sort("title")
        ids = rows["title"].to_numpy()
        tagged: dict[int, list[str]] = {}
        for title, tag in [] if tags is None else tags.select("title", "tag").drop_nulls().iter_rows():
            tagged.setdefault(title, []).append(tag.casefold().strip())
        texts = [Counter(_words(row, tagged.get(row["title"], ()))) for row in rows.iter_rows(named=True)]
        shared = Counter(word for text in texts for word in text)
        vocabulary = {word: k for k, word in enumerate(sorted(w for w, n in shared.items() if n >= fewest))}
        known = [[(vocabulary[w], n) for w, n in text.items() if w in vocabulary] for text in texts]
        offsets = np.cumsum([0, *(len(k) for k in known)])
        columns = np.array([w for k in known for w, _ in k], np.int64)
        counts = np.array([n for k in known for _, n in k], np.float64)
        rarity = np.log(1 + len(ids) / np.array([shared[w] for w in vocabulary], np.float64))
        table = csr_array(((1 + np.log(counts)) * rarity[columns], columns, offsets), (len(ids), len(vocabulary)))
        return cls(ids, _directions(table, width))

    def against(self, titles: Array) -> Array:
        """The vectors of other titles, zeros for those not described; shape (titles, width)."""
        found = np.zeros((len(titles), self.vectors.shape[1]), np.float32)
        if len(self.titles):
            at = np.minimum(np.searchsorted(self.titles, titles), len(self.titles) - 1)
            known = self.titles[at] == titles
            found[known] = self.vectors[at[known]]
        return found


@register
@dataclass(repr=False)
class Content(Factors):
    """Factors that also know titles nobody has watched, from their descriptions.

    Learned vectors v of titles with n plays are regressed on descriptions f: W = argmin sum_i n_i |v_i - W f_i|^2 +
    l |W|^2, with an intercept. A title's vector is then n / (n + k) v + k / (n + k) W f: content alone without plays,
    what was learned after many. A title without a description keeps what was learned.

    A member is folded in on the blended vectors, so that a new title in the history counts from its first play on.

    Attributes:
        described: Ids of the described titles, sorted; from `Descriptions`.
        descriptions: Their vectors, shape (described titles, width of a description), float32.
        plays: k, the plays at which half of a vector is learned.
        shrink: l, in plays.
    """

    kind: ClassVar[str] = "content"
    described: Array = field(default_factory=lambda: np.array([], np.int64))
    descriptions: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    plays: float = 5.0
    shrink: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        must(self.plays, "plays", gt=0)
        must(self.shrink, "shrink", gt=0)

    @classmethod
    def about(cls, descriptions: Descriptions, **settings: Any) -> Self:
        """With these descriptions, and settings of `Factors`."""
        return cls(described=descriptions.titles, descriptions=descriptions.vectors, **settings)

    def fit(self, histories: Histories) -> Self:
        """Learn factors, then what of them the descriptions tell."""
        super().fit(histories)
        known = Descriptions(self.described, self.descriptions)
        counts = np.bincount(histories.items, minlength=len(histories.titles)).astype(np.float64)
        features = known.against(self.titles)
        told = _regress(features, self.vectors, counts, self.shrink)
        titles = np.union1d(self.titles, self.described)
        learned = np.zeros((len(titles), self.width), np.float32)
        played = np.zeros(len(titles))
        at = np.searchsorted(titles, self.titles)
        learned[at], played[at] = self.vectors, counts
        features = known.against(titles)
        silent = ~features.any(axis=1)
        share = np.where(silent, 1.0, played / (played + self.plays))[:, None].astype(np.float32)
        self.titles = titles
        self.vectors = np.ascontiguousarray(share * learned + (1 - share) * _with_one(features) @ told, np.float32)
        return self

    def alike(self, title: int, k: int = 10) -> list[tuple[int, float]]:
        """The k described titles whose descriptions point the same way, and the cosines; none where it has none."""
        known = Descriptions(self.described, self.descriptions)
        cosine = self.descriptions @ known.against(np.array([title]))[0]
        found = largest_first(zip(self.described.tolist(), cosine.tolist(), strict=True))
        return [(t, c) for t, c in found if t != title and c > 0][:k]


def _words(row: Mapping[str, Any], tags: Iterable[str]) -> Iterator[str]:
    """The words of all that is known about a title, each with the field it comes from."""
    for one in ("language", "provider", "kind"):
        if row.get(one):
            yield f"{one}:{row[one]}"
    if row.get("year"):
        yield f"decade:{int(row['year']) // 10}"
    for genre in row.get("genres") or ():
        yield f"genre:{genre}"
    for tag in tags:
        yield f"tag:{tag}"
    for one in ("name", "description"):
        for word in _WORD.findall((row.get(one) or "").casefold()):
            if word not in _EMPTY and not word.isdigit():
                yield f"word:{word}"


def _directions(table: Any, width: int) -> Array:
    """Rows of a sparse table in its leading directions, each row of length one; no more than it has."""
    rows, columns = table.shape
    if not rows or not columns or not table.nnz:
        return np.zeros((rows, min(width, max(columns, 1))), np.float32)
    length = np.sqrt(np.asarray((table * table).sum(axis=1))).reshape(-1)
    table = table.multiply(1 / np.maximum(length, 1e-12)[:, None]).tocsr()
    if min(rows, columns) <= width + 1:
        u, s, _ = np.linalg.svd(table.toarray(), full_matrices=False)
    else:
        from scipy.sparse.linalg import svds

        # The start of the iteration is given: the same titles give the same vectors.
        u, s, _ = svds(table, k=width, v0=np.ones(min(rows, columns)))
    found = (u * s)[:, :width]  # largest first in the dense way; the sparse one found no more
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.where(length > 1e-9, found / np.maximum(length, 1e-12), 0.0).astype(np.float32)


def _with_one(features: Array) -> Array:
    return np.column_stack([features, np.ones(len(features), np.float32)])


def _regress(features: Array, vectors: Array, counts: Array, shrink: float) -> Array:
    """Ridge regression of vectors on features and a one, rows weighed by counts; shape (features + 1, width), float32."""
    x, y = _with_one(features).astype(np.float64), vectors.astype(np.float64)
    weighed = x * counts[:, None]
    return np.linalg.solve(weighed.T @ x + shrink * np.eye(x.shape[1]), weighed.T @ y).astype(np.float32)
