"""Artwork and evidence: which image of a title, and which reason line under it, a member sees.

Decisions of their own, in the same log as the page. The candidates of `artwork` are all images there are; the guard
`OfTitle` leaves those of the title that the caller names. The candidates of `evidence` are the kinds of reason lines;
`Truthful` leaves those that are true of the title for this member. Both learn from whether the title was then played, and
say with which chance they chose, so that each can be judged on the log of any other policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.facts import Played
from matinee.domains.personalization.features import profile
from matinee.scorers import register

Array = np.ndarray[Any, Any]
QUALITY = 600  # seconds: a play that short says that the picture promised too much
LEARNED = 0.6  # share of the logged choices, in time, that the recipe learns from; it is judged on the others
TONES = ("face", "action", "romance", "comedy", "landscape", "text")


class Image(mt.Entity, key="image"):
    """A picture of a title. What it shows is what is shared between titles."""

    image: int
    title: int
    tone: Annotated[str, mt.OneOf(TONES)] = "face"
    file: str | None = None


class OfTitle:
    """A guard: only images of the title that is asked about (context key `title`); none where it is not named."""

    name, reason = "of the title", "a picture of another title"

    def mask(self, request: mt.Request, candidates: mt.Candidates) -> np.ndarray[Any, Any]:
        """True for each image of the title."""
        title = request.context.get("title")
        if title is None or "title" not in candidates.columns:
            return np.zeros(len(candidates), np.bool_)
        return np.asarray(candidates.columns["title"] == title)

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


class Truthful:
    """A guard: only reason lines that are true of the title here and now (context key `true`: names, commas between)."""

    name, reason = "true", "it is not true of this title for this member"

    def mask(self, request: mt.Request, candidates: mt.Candidates) -> np.ndarray[Any, Any]:
        """True for each line that the caller vouches for; "plain", which claims nothing, always is."""
        claimed = {"plain", *str(request.context.get("true") or "").split(",")}
        return np.array([str(i) in claimed for i in candidates.ids.tolist()], np.bool_)

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


class Known:
    """A guard that keeps nothing out, and has the profile read: whether it is one of kids."""

    name, reason = "profile", "keeps nothing out"

    @property
    def needs(self) -> Sequence[mt.Features]:
        """The member's profile."""
        return [profile]

    def mask(self, request: mt.Request, candidates: mt.Candidates) -> np.ndarray[Any, Any]:
        """Everything."""
        return np.ones(len(candidates), np.bool_)

    def __repr__(self) -> str:
        return f"{self.name}: {self.reason}"


def reward(within: str = "24h") -> Any:
    """Whether the title was played for ten minutes or more soon after: a play that was meant."""
    return mt.did(Played, within=within, where=Played.seconds >= QUALITY)


artwork = mt.Decision(
    "artwork", title="Artwork", unit="member", among="image", slots=1, reward=reward(), reward_unit="quality plays",
    guards=[OfTitle(), Known()], consent="personalization", sheltered="kids",
    description="The picture of a title that a member sees",
)  # fmt: skip

REASONS = ("because", "top", "new", "leaving", "popular", "plain")
evidence = mt.Decision(
    "evidence", title="Reason line", unit="member", among=list(REASONS), slots=1, reward=reward(),
    reward_unit="quality plays", guards=[Truthful(), Known()], fallback="plain", consent="personalization",
    sheltered="kids", description="The line under a title that says why it is here",
)  # fmt: skip


@register
class Pictures:
    """What pictures earn: a belief about each that narrows with every showing, and differs by device.

    A Bayesian linear regression of the reward on what a picture shows (its tone), the same for who watches on a phone,
    and the picture itself: a new picture begins with what its like have earned, and is soon judged by what it earned
    itself. Being normal, the beliefs serve Thompson's rule (`mt.Thompson`), whose chances are computed exactly.

    Args:
        prior: Mean reward before anything is known.
        spread: Standard deviation of what tones earn around that, and of what pictures earn around their tone.
        noise: Standard deviation of a single reward around its mean.
        name: Name and version.
    """

    kind: ClassVar[str] = "pictures"
    needs: Sequence[mt.Features] = ()

    def __init__(self, prior: float = 0.1, spread: float = 0.1, noise: float = 0.3, name: str = "") -> None:
        self.prior = must(float(prior), "prior", ge=-1e9, le=1e9)
        self.spread, self.noise = must(float(spread), "spread", gt=0), must(float(noise), "noise", gt=0)
        self.name = name
        self.images = np.zeros(0, np.int64)  # sorted
        self.mean: Array = np.zeros(2 * len(TONES))
        self.covariance: Array = np.eye(2 * len(TONES)) * self.spread**2

    def fit(self, images: Array, tones: Array, phone: Array, rewards: Array) -> Self:
        """Learn from showings, all at once.

        Args:
            images: The picture shown, shape (showings,).
            tones: What it shows, text, shape (showings,).
            phone: Whether it was shown on a phone, shape (showings,).
            rewards: What came of it, shape (showings,).

        Raises:
            MatineeError: If a reward is no number.
        """
        rewards = np.asarray(rewards, np.float64)
        if not np.isfinite(rewards).all():
            bad = int((~np.isfinite(rewards)).sum())
            raise mt.MatineeError(f"rewards hold {bad} values that are not finite, must all be numbers")
        self.images, which = np.unique(np.asarray(images, np.int64), return_inverse=True)
        x = np.zeros((len(rewards), 2 * len(TONES) + len(self.images)))
        x[:, : 2 * len(TONES)] = _columns(np.asarray(tones, np.str_), np.asarray(phone, np.float64))
        x[np.arange(len(rewards)), 2 * len(TONES) + which] = 1.0
        precision = x.T @ x / self.noise**2 + np.eye(x.shape[1]) / self.spread**2
        self.covariance = np.linalg.inv(precision)
        self.mean = self.covariance @ (x.T @ (rewards - self.prior)) / self.noise**2
        return self

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        """What each picture is believed to earn for this request, and how surely."""
        n, base = len(candidates), 2 * len(TONES)
        if "tone" not in candidates.columns:
            known = ", ".join(candidates.columns) or "none"
            raise mt.MatineeError(f"column == 'tone', must be one of the candidates' columns ({known})")
        phone = np.full(n, float(request.context.get("device") == "phone"))
        x = np.zeros((n, len(self.mean)))
        x[:, :base] = _columns(candidates.columns["tone"], phone)
        new = np.ones(n, np.bool_)
        if len(self.images):
            at = np.minimum(np.searchsorted(self.images, candidates.ids), len(self.images) - 1)
            new = self.images[at] != candidates.ids
            rows = np.flatnonzero(~new)
            x[rows, base + at[rows]] = 1.0
        variance = np.einsum("ij,jk,ik->i", x, self.covariance, x)
        return mt.Scores(self.prior + x @ self.mean, np.sqrt(variance + new * self.spread**2))

    def save(self, folder: Path) -> None:
        """Write its beliefs."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        settings = np.array([self.prior, self.spread, self.noise])
        save_file(
            {"images": self.images, "mean": self.mean, "covariance": np.ascontiguousarray(self.covariance), "settings": settings},
            folder / "pictures.safetensors",
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MatineeError: If the file is missing, cut short or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            found = load_file(folder / "pictures.safetensors")
            made = cls(*found["settings"].tolist())
            made.images, made.mean, made.covariance = found["images"], found["mean"], found["covariance"]
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise mt.MatineeError(f"model {folder.parent.name}@{folder.name} is cut short or damaged; train it again") from error
        return made

    def __repr__(self) -> str:
        return f"Pictures({len(self.images)} pictures)"


def _columns(tones: Array, phone: Array) -> Array:
    shown = (tones[:, None] == np.array(TONES)[None, :]).astype(np.float64)
    return np.concatenate([shown, shown * phone[:, None]], axis=1)


def train(studio: mt.Studio, step: Callable[..., None] = lambda *_a: None) -> list[str]:
    """Learn from the first three fifths of the log of pictures; returns the policies, the baseline first.

    The rest of the log is what the learned policy is judged on. Before anything was logged there is the baseline alone:
    every picture alike, the cleanest log to learn from.
    """
    import polars as pl

    from matinee.rewarded import mature_before, rewarded_slots

    policies = [studio.save_policy(artwork, mt.Uniform(), note="every picture alike: the baseline")]
    log = studio.choices("artwork")
    log = log.filter((pl.col("at") < mature_before(artwork, studio.clock())) & pl.col("fallback").is_null())
    source = studio.source(artwork)
    log = log.filter(pl.col("at") <= pl.col("at").quantile(LEARNED, "nearest"))
    log = log.filter(source.allows(log["unit"]))
    if not len(log):
        return policies
    step(1, "learning what pictures earn")
    rows = rewarded_slots(studio, artwork, log).with_columns(pl.col("action").cast(int).alias("image"))
    tones = studio.as_of(Image).select("image", "tone")
    rows = rows.join(tones, on="image", how="inner", maintain_order="left")
    phone = [json.loads(c or "{}").get("device") == "phone" for c in rows["context"].to_list()]
    learned = Pictures().fit(
        rows["image"].to_numpy(), np.array(rows["tone"].to_list(), np.str_), np.array(phone), rows["reward"].to_numpy()
    )
    record = {"learner": learned.kind, "showings": len(rows), "decision": "artwork"}
    until = log["at"].max()
    assert isinstance(until, datetime)
    studio.keep("artwork-pictures", learned, facts=source, record=record, learned_until=until)
    policies.append(studio.save_policy(artwork, mt.Thompson(learned, floor=0.05), note="each with the chance that it is the best"))
    return policies
