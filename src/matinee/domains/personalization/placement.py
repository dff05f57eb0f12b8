"""One title for one place on a page, drawn for a visitor without a name: the decision that a log of placements holds.

The Open Bandit log is of this kind: a title, its place, whether it was clicked, and the probability it was drawn with.
"""

from __future__ import annotations

import matinee as mt
from matinee.domains.personalization.facts import Clicked

placement = mt.Decision(
    "placement",
    title="A title for a place",
    unit="visit",
    among="title",
    reward=mt.did(Clicked, within="1h"),
    reward_unit="clicks",
    description="One title for one place on a page, for a visitor without a name",
)
