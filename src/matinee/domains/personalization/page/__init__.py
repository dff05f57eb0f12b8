"""Whole pages: rows of titles for one member, built stage by stage within the guards, each slot with its exact chance.

`titles` the catalogue and its standing rows; `relevance` scores as chances; `mix` and `rerank` calibration; `construct`
the page itself; `model` and `policy` the page as a policy of a decision; `exact` the best small page there is.
"""

from __future__ import annotations

from matinee.domains.personalization.page.construct import Page, Row, Scene, construct
from matinee.domains.personalization.page.features import visits
from matinee.domains.personalization.page.mix import divergence, mix, shares
from matinee.domains.personalization.page.model import PageModel
from matinee.domains.personalization.page.policy import Pages, Shelf, shelves
from matinee.domains.personalization.page.relevance import Relevance
from matinee.domains.personalization.page.rerank import Lottery, exchange, greedy, lottery
from matinee.domains.personalization.page.settings import Contract, Layout
from matinee.domains.personalization.page.titles import Titles

__all__ = [
    "Contract",
    "Layout",
    "Lottery",
    "Page",
    "PageModel",
    "Pages",
    "Relevance",
    "Row",
    "Scene",
    "Shelf",
    "Titles",
    "construct",
    "divergence",
    "exchange",
    "greedy",
    "lottery",
    "mix",
    "shares",
    "shelves",
    "visits",
]
