"""Recommenders: what a history says about every title. Each is a scorer that also proposes candidates from a catalogue.

| name | what it counts | good for |
|---|---|---|
| Popular | plays, with a half-life | members without a history, and the honest baseline |
| Following | what is played soon after what (a decayed window) | the next title |
| Successor | what comes next, linear in decayed blocks of the history (closed form) | the next title, up to 20,000 titles |
| Chain | how much likelier each title of the history makes the next one, lag by lag | the next title beside Successor |
| Transformer | what comes next, by self-attention (extra `torch`) | the next title where there is time to train |
| Blend | logs of several, added with learnt weights | where several are good |
| Staged | candidates of a blend, put in order by trees | the best order, where there is time to learn it |
| Together | what is played by the same members (closed-form autoencoder) | taste over the long run |
| Factors | members and titles as vectors (implicit ALS) | the same above 30,000 titles |
| Content | Factors, with vectors from descriptions for new titles | titles nobody has watched |
| Nearby | pairs in a window, both ways, newer ones counting more | where order is rough |
| Timed | candidates of several, ordered by trees that learned on events after a cut | many events a member |
| Continuing | how likely a title begun is gone on with | continue watching |

`conformance.check_recommender` tries out what the contract (`Recommender`) promises, on a recommender of anybody's.
"""

from __future__ import annotations

from matinee.domains.personalization.recommenders.base import PROPOSE, Recommender, load_recommender, top
from matinee.domains.personalization.recommenders.chain import Chain
from matinee.domains.personalization.recommenders.content import Content, Descriptions
from matinee.domains.personalization.recommenders.continuing import Continuing
from matinee.domains.personalization.recommenders.ensemble import Blend
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.recommenders.following import Following
from matinee.domains.personalization.recommenders.histories import MOST_TITLES, Histories
from matinee.domains.personalization.recommenders.nearby import Nearby
from matinee.domains.personalization.recommenders.popular import Popular
from matinee.domains.personalization.recommenders.sequence import Block, Successor
from matinee.domains.personalization.recommenders.stages import Staged
from matinee.domains.personalization.recommenders.timed import Timed
from matinee.domains.personalization.recommenders.together import Together
from matinee.domains.personalization.recommenders.transformer import Transformer

__all__ = [
    "MOST_TITLES",
    "PROPOSE",
    "Blend",
    "Block",
    "Chain",
    "Content",
    "Continuing",
    "Descriptions",
    "Factors",
    "Following",
    "Histories",
    "Nearby",
    "Popular",
    "Recommender",
    "Staged",
    "Successor",
    "Timed",
    "Together",
    "Transformer",
    "load_recommender",
    "top",
]
