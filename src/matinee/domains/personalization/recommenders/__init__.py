"""Recommenders: what a history says about every title. Each is a scorer that also proposes candidates from a catalogue.

| name | what it counts | good for |
|---|---|---|
| Popular | plays, with a half-life | members without a history, and the honest baseline |
| Following | what is played soon after what (a decayed window) | the next title |
| Together | what is played by the same members (closed-form autoencoder) | taste over the long run |

`conformance.check_recommender` tries out what the contract (`Recommender`) promises, on a recommender of anybody's.
"""

from __future__ import annotations

from matinee.domains.personalization.recommenders.base import PROPOSE, Recommender, load_recommender, top
from matinee.domains.personalization.recommenders.following import Following
from matinee.domains.personalization.recommenders.histories import MOST_TITLES, Histories
from matinee.domains.personalization.recommenders.popular import Popular
from matinee.domains.personalization.recommenders.together import Together

__all__ = [
    "MOST_TITLES",
    "PROPOSE",
    "Following",
    "Histories",
    "Popular",
    "Recommender",
    "Together",
    "load_recommender",
    "top",
]
