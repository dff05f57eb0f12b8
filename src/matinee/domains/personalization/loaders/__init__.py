"""Files to facts: public sets in the layouts they are published in, and a file of plays of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matinee.domains.personalization.loaders.amazon import import_amazon
from matinee.domains.personalization.loaders.ids import number_of
from matinee.domains.personalization.loaders.importing import Imported
from matinee.domains.personalization.loaders.kion import import_kion
from matinee.domains.personalization.loaders.kuairand import import_kuairand
from matinee.domains.personalization.loaders.million_song import import_million_song
from matinee.domains.personalization.loaders.mind import import_mind
from matinee.domains.personalization.loaders.movielens import import_movielens
from matinee.domains.personalization.loaders.netflix import import_netflix
from matinee.domains.personalization.loaders.open_bandit import import_open_bandit
from matinee.domains.personalization.loaders.plays import import_plays

IMPORTERS: dict[str, Callable[..., Any]] = {
    "movielens": import_movielens,
    "kion": import_kion,
    "netflix": import_netflix,
    "million-song": import_million_song,
    "amazon": import_amazon,
    "kuairand": import_kuairand,
    "mind": import_mind,
    "open-bandit": import_open_bandit,
    "plays": import_plays,
}

__all__ = [
    "IMPORTERS", "Imported", "import_amazon", "import_kion", "import_kuairand", "import_million_song", "import_mind",
    "import_movielens", "import_netflix", "import_open_bandit", "import_plays", "number_of",
]  # fmt: skip
