"""Invented names of titles and providers. No existing title is meant; a clash would be chance."""

from __future__ import annotations

import numpy as np

_ADJECTIVES = (
    "Amber", "Brittle", "Borrowed", "Quiet", "Crooked", "Distant", "Eleventh", "Faithful", "Gilded", "Hollow", "Idle",
    "Jagged", "Kindred", "Lesser", "Mended", "Narrow", "Ordinary", "Patient", "Quick", "Restless", "Second", "Tidal",
    "Unsent", "Velvet", "Wintering", "Yellow", "Last", "Paper", "Salt", "Copper",
)  # fmt: skip
_NOUNS = (
    "Harbour", "Orchard", "Lantern", "Cartographer", "Winter", "Ferry", "Archive", "Sparrow", "Bridge", "Tenant",
    "Meridian", "Garden", "Witness", "Ledger", "Chorus", "Island", "Apprentice", "Observatory", "Causeway", "Violin",
    "Station", "Beekeeper", "Marsh", "Signal", "Letter", "Glasshouse", "Summit", "Tram", "Lighthouse", "Courier",
)  # fmt: skip
_PLACES = (
    "Ostrava", "Lisbon", "Tromsø", "Galway", "Trieste", "Cádiz", "Gdańsk", "Bergen", "Kraków", "Porto", "Tartu",
    "Ghent", "Oulu", "Graz", "Nantes",
)  # fmt: skip
_PROVIDERS = (
    "Northlight Pictures", "Harrow & Finch", "Studio Kestrel", "Blue Door Films", "Palatine Media", "Low Tide",
    "Meridian House", "Ember Road",
)  # fmt: skip


def title_names(count: int, rng: np.random.Generator) -> list[str]:
    """`count` different invented titles.

    Example:
        >>> len(set(title_names(400, np.random.default_rng(0))))
        400
    """
    stems = [f"{a} {n}" for a in _ADJECTIVES for n in _NOUNS]
    rng.shuffle(stems)
    while len(stems) < count:  # a second round of the same stems becomes sequels
        stems += [f"{stem} {len(stems) // 900 + 1}" for stem in stems[:900]]
    form = rng.integers(0, 5, count)
    place = rng.integers(0, len(_PLACES), count)
    patterns = ("The {0}", "{0}", "The {0} of {1}", "{0}: {1}", "My {0}")
    return [patterns[f].format(s, _PLACES[p]) for s, f, p in zip(stems, form, place)]


def provider_names() -> list[str]:
    """The providers that license titles to the service, the service's own studio first."""
    return ["Matinee Originals", *_PROVIDERS]
