"""Personalization: which titles to show this member.

`facts` what is known; `loaders` files to facts; `features` a member's taste and a title's standing; `recommenders`
candidates from histories; `home` the decision and its recipe; `placement` a decision of logs without names; `backtest`
evidence from history.
"""

from __future__ import annotations

import matinee as mt
from matinee.domains.personalization.backtest import backtest
from matinee.domains.personalization.facts import FACTS
from matinee.domains.personalization.features import FEATURES
from matinee.domains.personalization.home import home, names, train, why
from matinee.domains.personalization.loaders import IMPORTERS
from matinee.domains.personalization.placement import placement

domain = mt.Domain(
    name="personalization",
    title="Personalization",
    facts=FACTS,
    features=FEATURES,
    decisions=[home, placement],
    importers=IMPORTERS,
    recipes={"home": train},
    backtests={"home": backtest},
    reasons={"home": why},
    names={"title": names},
)
