"""The network of the transformer. Imported only where torch is there and a transformer is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Array = np.ndarray[Any, Any]
INPUT = 4.0  # what vectors are multiplied by on the way in: as an output they are small
WIDER = 8 / 3  # hidden units of the gated layer for each of the width


class Layer(nn.Module):
    """Causal attention, then a gated feed-forward layer; each reads the normed sum so far and adds to it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        hidden = int(WIDER * width)
        self.heads, self.dropout = heads, dropout
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * hidden, bias=False)
        self.back = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x: (rows, events, width); bias: (1, heads, events, events)."""
        rows, events, width = x.shape
        read = self.read(self.first(x)).view(rows, events, 3, self.heads, width // self.heads)
        q, k, v = read.permute(2, 0, 3, 1, 4).unbind(0)
        # A bias of four dimensions takes the fused kernel on a CPU, which is nearly twice as fast as the other one.
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        seen = self.mix(seen.transpose(1, 2).reshape(rows, events, width))
        x = x + functional.dropout(seen, self.dropout, self.training)
        gate, value = self.gate(self.second(x)).chunk(2, dim=-1)
        return x + functional.dropout(self.back(functional.silu(gate) * value), self.dropout, self.training)


class Network(nn.Module):
    """Vectors of titles, blocks, and the scores of every title to come next."""

    slopes: Tensor

    def __init__(self, titles: int, width: int, layers: int, slopes: Sequence[float], dropout: float) -> None:
        super().__init__()
        self.titles, self.dropout = titles, dropout
        self.vectors = nn.Parameter(torch.empty(titles, width))
        self.bias = nn.Parameter(torch.zeros(titles))
        self.blocks = nn.ModuleList(Layer(width, len(slopes), dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("slopes", torch.tensor(list(slopes)), persistent=False)

    def begin(self, vectors: Array, bias: Array) -> None:
        """Where training begins."""
        with torch.no_grad():
            self.vectors.copy_(torch.from_numpy(vectors))
            self.bias.copy_(torch.from_numpy(bias))

    def forward(self, items: Tensor) -> Tensor:
        """What is known after each event; items: (rows, events), -1 where there is none. Shape (rows, events, width)."""
        events = items.shape[1]
        at = torch.arange(events, device=items.device)
        gap = (at[:, None] - at[None, :]).float()
        # What comes later is masked, so what stands after the end of a row has no influence on what comes before it.
        bias = torch.where(gap >= 0, -gap * self.slopes[:, None, None], -torch.inf)[None]
        x = functional.embedding(items.clamp(min=0), self.vectors) * INPUT
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, bias)
        return torch.as_tensor(self.norm(x))

    def loss(self, items: Tensor, negatives: Tensor) -> Tensor:
        """Mean log loss of each next title against the negatives, which stand for all titles."""
        x = self(items[:, :-1])
        nexts = items[:, 1:]
        known = nexts >= 0
        x, positive = x[known], nexts[known]
        right = (x * functional.embedding(positive, self.vectors)).sum(1) + self.bias[positive]
        wrong = x @ functional.embedding(negatives, self.vectors).T + self.bias[negatives]
        wrong = wrong + math.log(self.titles / len(negatives))
        wrong = wrong.masked_fill(positive[:, None] == negatives[None, :], -torch.inf)
        logits = torch.cat([right[:, None], wrong], dim=1)
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    def newest(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores of every title after the last event of each row; of a row without events, the bias alone."""
        x = self(items)[torch.arange(len(items)), (lengths - 1).clamp(min=0)]
        return torch.as_tensor((x * (lengths > 0)[:, None]) @ self.vectors.T + self.bias)

    def flat(self) -> Array:
        """All parameters in one row, in the order they are declared."""
        return np.concatenate([p.detach().cpu().numpy().ravel() for p in self.parameters()])

    def fill(self, flat: Array) -> None:
        """The parameters from `flat`."""
        at = 0
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.from_numpy(flat[at : at + p.numel()].reshape(tuple(p.shape)).copy()))
                at += p.numel()
