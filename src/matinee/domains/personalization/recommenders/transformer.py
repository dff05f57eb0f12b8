"""A small transformer over the order of a history, for the optional extra `torch`; trained for a planned time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.pairs import cores, pair_counts
from matinee.scorers import register

if TYPE_CHECKING:
    from matinee.domains.personalization.recommenders.attention import Network

Array = np.ndarray[Any, Any]
WARM_UP = 100  # steps until the full rate
LAST_RATE = 0.02  # of the rate, where the cosine ends
NEWEST = 0.4  # share of the windows of a long history that are its newest events
NEAR = 5  # events apart that count for where the vectors of titles begin
DEVIATION = 0.05  # of the vectors where they begin


@register
@dataclass(repr=False)
class Transformer(Recommender):
    """What comes next, by self-attention over the history: next-title objective, sampled softmax, modern layers.

    Two pre-norm blocks of causal attention with fixed linear position biases (one head of each reach; Press et al. 2022)
    and a gated feed-forward layer (SwiGLU), titles' vectors shared between input and output. Vectors begin at a singular
    value decomposition of the log lift of co-occurrence, the output bias at half of log popularity. The loss is a softmax
    over the true next title and uniform negatives shared by the batch, corrected for their number.

    Training takes a planned time, which sets the cosine schedule of the rate: `seconds` of processor time on a CPU, of
    time on a GPU. With `steps` in place of it the result depends on the seed alone.

    Attributes:
        parameters: All weights in one row, in the order of the network, float32.
        seconds: Planned training time; `steps` in its place where that is not 0.
        steps: Number of batches.
        width, layers: Size of the vectors, and number of blocks.
        slopes: Position bias of each head: what a step of distance takes off.
        dropout, rate, negatives: Share dropped, highest learning rate, negatives of a batch.
        window: Newest events that are read.
        tokens: Events of a batch.
        seed: Of the order of batches, the negatives and the dropout.
        device: "cpu" or "cuda".

    Raises:
        MatineeError: On fit or load without the extra: `pip install 'matinee[torch]'`.
    """

    kind: ClassVar[str] = "transformer"
    logarithmic: ClassVar[bool] = True
    parameters: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    seconds: float = 200.0
    steps: int = 0
    width: int = 64
    layers: int = 2
    slopes: tuple[float, ...] = (0.0, 0.02, 0.15, 0.7)
    dropout: float = 0.1
    rate: float = 2e-3
    negatives: int = 768
    window: int = 200
    tokens: int = 3500
    seed: int = 0
    device: str = "cpu"
    _net: Network | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.slopes = tuple(self.slopes)
        must(self.seconds, "seconds", gt=0)
        must(self.steps, "steps", typ=int, ge=0)
        must(self.width, "width", typ=int, ge=len(self.slopes))
        must(self.width % len(self.slopes), "width % heads", le=0)
        must(self.window, "window", typ=int, ge=2)

    def fit(self, histories: Histories) -> Self:
        """Train from the start for the planned time."""
        torch = _torch()
        self.titles, self.learned = histories.titles, histories
        rng = np.random.default_rng(self.seed)
        threads = torch.get_num_threads()
        torch.set_num_threads(cores())
        try:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                net = self._network()
                net.begin(_first_vectors(histories, self.width, rng), _first_bias(histories))
                self._train(net.to(self.device), histories, rng)
        finally:
            torch.set_num_threads(threads)
        self.parameters = net.flat()
        self._net = net.to("cpu").eval()
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Log-probabilities of every title to come next."""
        one = Histories.of_sequences([self.titles[self._known(history)[-self.window :]]])
        return np.asarray(self.scores_of(one)[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """Batches of histories of similar length."""
        torch = _torch()
        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        net = self._ready()
        made = np.empty((len(known), len(self.titles)), np.float32)
        lengths = np.minimum(known.lengths, self.window)
        with torch.inference_mode():
            for batch in _batches(np.argsort(lengths, kind="stable"), np.maximum(lengths, 1), 8 * self.tokens):
                starts = known.offsets[batch + 1] - lengths[batch]
                items = _padded(known.items, starts, lengths[batch])
                logits = net.newest(torch.from_numpy(items), torch.from_numpy(lengths[batch]))
                made[batch] = torch.log_softmax(logits, dim=1).numpy()
        return made

    def _train(self, net: Network, histories: Histories, rng: np.random.Generator) -> None:
        import torch

        clock = time.process_time if self.device == "cpu" else time.perf_counter
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        n, begin = len(histories.titles), clock()
        net.train()
        for step, items in enumerate(self._windows(histories, rng)):
            done = step / self.steps if self.steps else (clock() - begin) / self.seconds
            if done >= 1:
                break
            cosine = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
            for group in optimizer.param_groups:
                group["lr"] = self.rate * cosine * min(1.0, (step + 1) / WARM_UP)
            negatives = rng.integers(0, n, min(self.negatives, n))
            loss = net.loss(torch.from_numpy(items).to(self.device), torch.from_numpy(negatives).to(self.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    def _windows(self, histories: Histories, rng: np.random.Generator) -> Iterator[Array]:
        """Batches of windows of one more event than are read, -1 after the end; each member once an epoch, for ever."""
        rows = np.flatnonzero(histories.lengths >= 2)
        if not len(rows):
            return
        lengths = np.minimum(histories.lengths[rows], self.window + 1)
        spare = histories.lengths[rows] - lengths
        while True:
            newest = rng.random(len(rows)) < NEWEST
            starts = histories.offsets[rows] + np.where(newest, spare, rng.integers(0, spare + 1))
            # Similar lengths stand together, so that little is padded; which of them do is new in every epoch.
            order = np.argsort(lengths * (1 + 0.1 * rng.random(len(rows))), kind="stable")
            batches = list(_batches(order, lengths, self.tokens))
            for b in rng.permutation(len(batches)):
                yield _padded(histories.items, starts[batches[b]], lengths[batches[b]])

    def _network(self) -> Network:
        from matinee.domains.personalization.recommenders.attention import Network

        return Network(len(self.titles), self.width, self.layers, self.slopes, self.dropout)

    def _ready(self) -> Network:
        """The network, made from the parameters where it was loaded."""
        if self._net is None:
            _torch()
            self._net = self._network()
            self._net.fill(self.parameters)
            self._net.eval()
        return self._net


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise mt.MatineeError("the transformer needs torch, must be installed: pip install 'matinee[torch]'") from None
    return torch


def _batches(order: Array, lengths: Array, tokens: int) -> Iterator[Array]:
    """Runs of `order` whose padded size (members x longest) is at most so many tokens, or one member."""
    begin, longest = 0, 0
    for at, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if at > begin and longest * (at + 1 - begin) > tokens:
            yield order[begin:at]
            begin, longest = at, length
    if len(order):
        yield order[begin:]


def _padded(items: Array, starts: Array, lengths: Array) -> Array:
    """Rows of items, -1 after the end; shape (rows, longest, at least 1)."""
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    at = np.minimum(starts[:, None] + steps, max(len(items) - 1, 0))
    inside = steps < lengths[:, None]
    return np.asarray(np.where(inside, items[at], -1) if len(items) else np.full(at.shape, -1, np.int64))


def _first_vectors(histories: Histories, width: int, rng: np.random.Generator) -> Array:
    """Singular vectors of log(1 + lift) of co-occurrence nearby: titles seen together begin near each other."""
    from scipy.sparse.linalg import svds

    n = len(histories.titles)
    vectors = rng.normal(size=(n, width))
    counts = pair_counts(histories, 1.0 / np.arange(1, NEAR + 1))
    counts = (counts + counts.T).tocoo()
    rank = min(width, n - 2)
    if rank >= 1 and counts.nnz > width:
        sums = counts.sum(axis=1)
        counts.data = np.log1p(counts.data * counts.data.sum() / (sums[counts.row] * sums[counts.col])).astype(
            np.float64
        )
        u, s, _ = svds(counts.tocsr(), k=rank, v0=rng.normal(size=n))
        vectors[:, :rank] = u * np.sqrt(s)
        vectors[:, rank:] *= vectors[:, :rank].std()
    return np.asarray(vectors / max(float(vectors.std()), 1e-12) * DEVIATION, np.float32)


def _first_bias(histories: Histories) -> Array:
    plays = np.bincount(histories.items, minlength=len(histories.titles))
    return np.asarray(0.5 * np.log(plays + 10.0), np.float32)
