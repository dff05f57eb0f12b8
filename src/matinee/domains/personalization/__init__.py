"""Personalization: which titles to show this member.

`facts` what is known; `loaders` files to facts; `features` a member's taste and a title's standing; `recommenders`
candidates from histories; `home` the decision and its recipe; `ranking` the ranker that learns from its log, on
`signals`; `front` whole pages, made by `page`; `wishes` what a member asked not to see or to have forgotten; `artwork`
pictures and reason lines; `exploration` new titles and new members; `placement` a decision of logs without names;
`backtest` evidence from history.
"""

from __future__ import annotations

import matinee as mt
from matinee.domains.personalization.artwork import Image, artwork, evidence
from matinee.domains.personalization.artwork import train as train_artwork
from matinee.domains.personalization.backtest import backtest
from matinee.domains.personalization.facts import FACTS
from matinee.domains.personalization.features import FEATURES
from matinee.domains.personalization.front import front
from matinee.domains.personalization.front import train as train_front
from matinee.domains.personalization.front import why as why_on_front
from matinee.domains.personalization.home import home, names, why
from matinee.domains.personalization.loaders import IMPORTERS
from matinee.domains.personalization.page import visits
from matinee.domains.personalization.placement import placement
from matinee.domains.personalization.ranking import recipe as train_home
from matinee.domains.personalization.showings import SHOWINGS, about
from matinee.domains.personalization.signals import FEATURES as SIGNALS
from matinee.domains.personalization.wishes import FACTS as WISHES
from matinee.domains.personalization.wishes import wishes

domain = mt.Domain(
    name="personalization",
    title="Personalization",
    facts=[*FACTS, *WISHES, Image],
    features=[*FEATURES, visits, wishes, *SIGNALS],
    decisions=[home, front, artwork, evidence, placement],
    importers=IMPORTERS,
    recipes={"home": train_home, "front": train_front, "artwork": train_artwork},
    backtests={"home": backtest},
    reasons={"home": why, "front": why_on_front},
    names={"title": names},
    showings=SHOWINGS,
    about={"title": about},
)
