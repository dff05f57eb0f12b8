"""What personalization knows: members, titles, what was shown, played and rated, and where a title may be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import matinee as mt


class Member(mt.Entity, key="member", personal=("external",)):
    """A member, or a profile of one where a household has several.

    `maturity` is the highest age mark that the member may be shown; null means that no limit was set.
    """

    member: int
    country: str | None = None  # ISO 3166-1 alpha-2
    language: str | None = None  # BCP 47, of the interface
    maturity: Annotated[int | None, mt.Range(ge=0, le=21)] = None
    kids: bool = False
    birth_year: Annotated[int | None, mt.Range(ge=1900, le=2100)] = None
    external: str | None = None  # the id in the file it came from, where that was text


class Demographics(
    mt.Entity, key="member", personal=("age_band", "gender", "occupation", "postcode", "income", "activity")
):
    """What a public set says of its people: to look at how a policy serves groups, never an input of a model."""

    member: int
    age: Annotated[int | None, mt.Range(ge=0, le=130)] = None  # years, where the set says more than a band
    age_band: str | None = None
    gender: str | None = None
    occupation: str | None = None
    postcode: str | None = None
    income: str | None = None
    children: bool | None = None  # there are children in the household
    activity: str | None = None  # how much the member uses the service, in the set's own words


class Title(mt.Entity, key="title"):
    """A title of the catalogue: a film, or a series as a whole; a song, an article or a product in sets of those.

    `maturity` is the age from which it may be watched; null means that nobody has marked it.
    """

    title: int
    name: str
    kind: Annotated[str, mt.OneOf(("film", "series", "video", "song", "article", "product"))] = "film"
    year: Annotated[int | None, mt.Range(ge=1870, le=2100)] = None
    genres: list[str] | None = None
    maturity: Annotated[int | None, mt.Range(ge=0, le=21)] = None
    provider: str | None = None  # who licenses it to the service; the service itself for an original
    runtime: Annotated[int | None, mt.Range(gt=0)] = None  # minutes, of one episode for a series
    language: str | None = None  # BCP 47, original
    external: str | None = None


class Played(mt.Fact, key="member"):
    """A member played a title: one row a session. `share` is the part of the title watched by its end."""

    member: int
    title: int
    seconds: Annotated[float, mt.Range(ge=0)]
    device: str | None = None
    share: Annotated[float | None, mt.Range(ge=0, le=1)] = None


class Rated(mt.Fact, key="member"):
    """A member gave a title stars, half a star to five."""

    member: int
    title: int
    stars: Annotated[float, mt.Range(ge=0.5, le=5)]


class Opened(mt.Fact, key="member"):
    """A member opened a title: a click, or plays of which a source says how many and not how long."""

    member: int
    title: int
    times: Annotated[int, mt.Range(ge=1)]
    device: str | None = None


class Clicked(mt.Fact, key="visit"):
    """A visitor without a name clicked a title in a place of a page, during one visit."""

    visit: str
    title: int
    slot: Annotated[int, mt.Range(ge=0)]


class Shown(mt.Fact, key="member"):
    """A title was on the member's screen: an impression. `slot` counts from 0, over the page."""

    member: int
    title: int
    slot: Annotated[int, mt.Range(ge=0)]
    shelf: str | None = None  # name of the row of the page it stood in
    device: str | None = None


class Tagged(mt.Fact, key="title"):
    """A member put a tag on a title."""

    title: int
    member: int
    tag: str


class Licence(mt.Fact, key="title", scheduled=True):
    """The service may show a title in a territory from `starts` until just before `ends` (null: open end)."""

    title: int
    territory: str  # ISO 3166-1 alpha-2, or "*" for everywhere
    starts: datetime
    ends: datetime | None = None


FACTS: list[type[mt.Fact]] = [Member, Demographics, Title, Played, Rated, Opened, Clicked, Shown, Tagged, Licence]
