"""Features of units while serving: what was published, and every row that this process has learned of since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matinee.choices import Id
from matinee.facts import Fact
from matinee.online import OnlineStore
from matinee.publishing import published_joins
from matinee.rights import Consent
from matinee.times import instant, to_us
from matinee.validate import AHEAD

if TYPE_CHECKING:
    from matinee.features import Features
    from matinee.features.online import Online
    from matinee.studio import Studio

MANY_EVENTS = 500_000  # appended rows remembered until the next generation
_AHEAD = AHEAD // timedelta(microseconds=1)
MANY_KEYS = 200_000  # units whose features are held in memory before all are let go


def watched_facts(studio: Studio) -> list[type[Fact]]:
    """Facts whose rows serving takes in whoever appends them: what guards read of what is so, consents above all.

    What happened (plays, charges) is too much to follow; serving has its own at once and that of others with the next
    generation.
    """
    needed = [f for d in studio.decisions.values() for one in d.needs for f in one.facts]
    return [f for f in dict.fromkeys(needed) if f is Consent or f.schema.entity or f.schema.scheduled]


@dataclass
class UnitFeatures:
    """Features of units as of now: what was published, and every event since.

    What this process records or appends is in the features at once, and so is what others append to `watched_facts`
    once it was polled. Everything else that others append or record is in them after the next `publish`.
    """

    studio: Studio
    store: OnlineStore
    online: dict[str, Online] = field(default_factory=dict)
    loaded: dict[str, set[Id]] = field(default_factory=dict)
    events: deque[tuple[type[Fact], dict[str, Any], int]] = field(default_factory=deque)
    appended: deque[tuple[type[Fact], dict[str, Any]]] = field(default_factory=deque)
    numbers: set[int] = field(default_factory=set)  # `seq` of what is in `appended`
    unheld: set[type[Fact]] = field(default_factory=set)  # watched facts with more new rows than memory should hold
    by_key: dict[str, dict[Any, list[tuple[type[Fact], dict[str, Any]]]]] = field(default_factory=dict)
    sealed: int = 0  # segments of this process's stream up to here are in the generation

    def read(self, features: Features, key: Id, at: datetime) -> dict[str, Any]:
        """The features of a key as of a time."""
        name = features.name
        if name not in self.store.features or not self.unheld.isdisjoint(features.facts):
            return self._from_tables(features, key, at)
        online = self.online.get(name)
        if online is None:
            online = self._begin(features)
        seen = self.loaded[name]
        if key not in seen:
            if len(seen) > MANY_KEYS:
                online = self._begin(features)
                seen = self.loaded[name]
            self._load(online, features, key)
        return dict(online.read(key, self._no_earlier(online, key, to_us(at))))

    @staticmethod
    def _no_earlier(online: Online, key: Id, at: int) -> int:
        """The time to read at: a moment later where another thread, or a clock a little ahead, has spoken since."""
        state = online.states.get(key)
        return state.clock if state is not None and 0 < state.clock - at <= _AHEAD else at

    def feed(self, fact: type[Fact], row: dict[str, Any], segment: int) -> None:
        """Take in one event: `row` has the fact's columns, `at`, `known` and `seq`; `segment` of the log holds it."""
        if segment <= self.sealed:
            return  # sealed and published between its append and now: the generation has it
        self.events.append((fact, row, segment))
        self._take(self._reading(fact), fact, row)

    def feed_appended(self, fact: type[Fact], rows: Iterable[dict[str, Any]]) -> None:
        """Take in rows that were appended to a fact's table, as they stand there; those known already are passed over."""
        as_of, following = self._edge()
        reading = self._reading(fact)
        for row in rows:
            if row["seq"] in self.numbers or not self._is_new(fact, row, as_of, following):
                continue
            self.numbers.add(row["seq"])
            self.appended.append((fact, row))
            self._take(reading, fact, row)
        while len(self.appended) > MANY_EVENTS:
            gone, row = self.appended.popleft()
            self.numbers.discard(row["seq"])
            if gone in watched_facts(self.studio):
                self.unheld.add(gone)

    def _reading(self, fact: type[Fact]) -> list[tuple[Features, Online]]:
        """The states in memory that read the fact."""
        return [(one.features, one) for one in self.online.values() if fact in one.features.facts]

    def _take(self, reading: list[tuple[Features, Online]], fact: type[Fact], row: dict[str, Any]) -> None:
        for features, online in reading:
            self._index(features, self._since(features), fact, row)
            self._update(features, online, fact, row)

    def restart(self, store: OnlineStore, sealed: int) -> None:
        """Begin anew on another generation: events of segments up to `sealed` are in it, and rows numbered before it."""
        self.store = store
        self.sealed = max(self.sealed, sealed)
        # Threads feed in another order than they appended, so an older segment may lie behind a newer one.
        self.events = deque(e for e in self.events if e[2] > sealed)
        as_of, following = self._edge()
        self.appended = deque((f, row) for f, row in self.appended if self._is_new(f, row, as_of, following))
        self.numbers = {row["seq"] for _fact, row in self.appended}
        self.unheld.clear()
        self._let_go()

    def forget(self, is_about: Callable[[Mapping[str, Any]], bool]) -> None:
        """Let go of the rows of somebody who was erased."""
        self.events = deque(e for e in self.events if not is_about(e[1]))
        self.appended = deque((f, row) for f, row in self.appended if not is_about(row))
        self._let_go()

    def _let_go(self) -> None:
        self.online.clear()
        self.loaded.clear()
        self.by_key.clear()

    def _edge(self) -> tuple[int, Mapping[str, int]]:
        """Up to where the generation goes: microseconds, and by fact the number of the first row that it has not."""
        about = self.store.manifest
        return (to_us(instant(about["as_of"])) if about else 0), about.get("following", {})

    @staticmethod
    def _is_new(fact: type[Fact], row: Mapping[str, Any], as_of: int, following: Mapping[str, int]) -> bool:
        # What became known while the generation was begun is in its tables and not in its states.
        return bool(row["known"] > as_of or row["seq"] >= following.get(fact.schema.name, 0))

    def _begin(self, features: Features) -> Online:
        online = features.online()
        online.load_joins(published_joins(self.store, features.name))
        self.online[features.name], self.loaded[features.name] = online, set()
        return online

    def _load(self, online: Online, features: Features, key: Id) -> None:
        state = self.store.get(features.name, key)
        if state is not None:
            online.load(key, state)
        self.loaded[features.name].add(key)
        for fact, row in sorted(self._since(features).get(key, ()), key=_visible_from):
            online.update(fact, row)

    def _since(self, features: Features) -> dict[Any, list[tuple[type[Fact], dict[str, Any]]]]:
        """Everything that came since the generation, by the key of these features."""
        found = self.by_key.get(features.name)
        if found is None:
            found = self.by_key[features.name] = {}
            for fact, row in (*self.appended, *((f, row) for f, row, _segment in self.events)):
                self._index(features, found, fact, row)
        return found

    @staticmethod
    def _index(features: Features, found: dict[Any, Any], fact: type[Fact], row: dict[str, Any]) -> None:
        if fact in features.facts and row.get(features.key) is not None:
            found.setdefault(row[features.key], []).append((fact, row))

    def _update(self, features: Features, online: Online, fact: type[Fact], row: dict[str, Any]) -> None:
        if fact not in features.facts:
            return
        key = row.get(features.key)
        # A key that nobody has asked for yet gets its events when it is loaded.
        if key is None or key in self.loaded[features.name]:
            online.update(fact, row)

    def _from_tables(self, features: Features, key: Id, at: datetime) -> dict[str, Any]:
        """Without a published generation: the batch plan for one key. Right, and far too slow for a busy path."""
        import polars as pl

        kind = pl.Int64() if features.key_kind == "int" else pl.String()
        value = int(key) if features.key_kind == "int" else str(key)
        labels = pl.DataFrame({features.key: [value], "at": [at]}, schema={features.key: kind, "at": pl.Datetime("us", "UTC")})
        row = features.batch(self.studio.facts, labels).row(0, named=True)
        return {n: _online_value(row[n]) for n in features.names}


def _visible_from(event: tuple[type[Fact], dict[str, Any]]) -> int:
    return max(int(event[1]["at"]), int(event[1]["known"]))


def _online_value(value: Any) -> Any:
    """A batch cell as the online rule would give it: counts by value are a dict there."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and set(value[0]) == {"value", "count"}:
        return {v["value"]: v["count"] for v in value}
    return value
