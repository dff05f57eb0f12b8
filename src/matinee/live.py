"""Serving in this process: live policies, published candidates, online features, the log. No table is read on the path.

request -> the unit's features -> candidates -> guards -> scores -> draw -> write-ahead log -> reply.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee import catalogue
from matinee.choices import Choice, Id, Outcome, new_id
from matinee.decisions import Decision, choose
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.experiments import Split
from matinee.facts import Fact
from matinee.ledger import Ledger
from matinee.online import OnlineStore
from matinee.policies import Candidates, Policy, Request
from matinee.publishing import published_candidates, published_joins
from matinee.releases import Release
from matinee.rights import in_force
from matinee.scorers import propose
from matinee.times import instant, to_us

if TYPE_CHECKING:
    import polars as pl

    from matinee.features import Features
    from matinee.features.online import Online
    from matinee.studio import Studio

RECENT = 4096  # choices remembered in memory, so that their outcomes find their decision without a look into the log
MANY_EVENTS = 500_000  # appended rows remembered until the next generation
MANY_KEYS = 200_000  # units whose features are held in memory before all are let go


@dataclass
class Arms:
    """Who decides for whom: the live release, ready to use."""

    release: Release
    split: Split
    policies: dict[str, Policy]
    names: dict[str, str]  # arm -> policy name


@dataclass
class Serving:
    """One generation of everything that is swapped as a whole on reload; requests in flight keep the one they began with."""

    arms: dict[str, Arms]
    candidates: dict[str, tuple[Candidates, datetime | None]]
    version: tuple[int, float]
    generation: int


@dataclass
class UnitFeatures:
    """Features of units as of now: what was published, and every event since.

    What this process records or appends is in the features at once. What other processes append or record is in them
    after the next `publish`.
    """

    studio: Studio
    store: OnlineStore
    online: dict[str, Online] = field(default_factory=dict)
    loaded: dict[str, set[Id]] = field(default_factory=dict)
    events: deque[tuple[type[Fact], dict[str, Any], int]] = field(default_factory=deque)
    appended: deque[tuple[type[Fact], dict[str, Any], int]] = field(default_factory=deque)  # with the time of appending
    by_key: dict[str, dict[Any, list[tuple[type[Fact], dict[str, Any]]]]] = field(default_factory=dict)
    sealed: int = 0  # segments of this process's stream up to here are in the generation

    def read(self, features: Features, key: Id, at: datetime) -> dict[str, Any]:
        """The features of a key as of a time."""
        name = features.name
        if name not in self.store.features:
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
        return dict(online.read(key, to_us(at)))

    def feed(self, fact: type[Fact], row: dict[str, Any], segment: int) -> None:
        """Take in one event: `row` has the fact's columns, `at`, `known` and `seq`; `segment` of the log holds it."""
        if segment <= self.sealed:
            return  # sealed and published between its append and now: the generation has it
        self.events.append((fact, row, segment))
        self._take(fact, row)

    def feed_appended(self, fact: type[Fact], rows: Iterable[dict[str, Any]], now_us: int) -> None:
        """Take in rows that were appended to a fact's table at a time."""
        for row in rows:
            self.appended.append((fact, row, now_us))
            self._take(fact, row)
        while len(self.appended) > MANY_EVENTS:
            self.appended.popleft()

    def _take(self, fact: type[Fact], row: dict[str, Any]) -> None:
        for name, online in self.online.items():
            self._index(self.studio.features[name], self._since(self.studio.features[name]), fact, row)
            self._update(self.studio.features[name], online, fact, row)

    def restart(self, sealed: int, as_of: int = 0, pinned: int = 0) -> None:
        """Begin anew on a newer generation: events of segments up to `sealed` are in it, and appended rows that were
        visible by `as_of`, unless they came (late) after its snapshots were pinned."""
        self.sealed = max(self.sealed, sealed)
        # Threads feed in another order than they appended, so an older segment may lie behind a newer one.
        self.events = deque(e for e in self.events if e[2] > sealed)
        self.appended = deque(
            (f, row, when) for f, row, when in self.appended if max(row["at"], row["known"]) > as_of or when > pinned
        )
        self.online.clear()
        self.loaded.clear()
        self.by_key.clear()

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
            for fact, row, _when in (*self.appended, *self.events):
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


class Live:
    """The serving side of a studio in one process. Safe to call from several threads."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.store = OnlineStore(studio.root / "online")
        self.units = UnitFeatures(studio, self.store)
        self.counts: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._random = np.random.default_rng()
        self._recent: dict[str, Choice] = {}
        self._order: deque[str] = deque()
        self._seen: dict[str, None] = {}
        self._serving = self._load()

    @cached_property
    def ledger(self) -> Ledger:
        """The log of this process, opened with the first record."""
        durability = self.studio.config.get("durability", "process")
        return Ledger(self.studio.root / "log", "live", durability=durability, clock=self.studio.clock)

    # -- decide

    def decide(
        self, decision: Decision, unit: Id, context: Mapping[str, Any], *, at: datetime | None = None, dry: bool = False
    ) -> Choice:
        """Choose and log; see `Studio.decide`."""
        moment = self.studio.clock() if at is None else instant(at)
        with self._lock:
            serving = self._serving
            arms = serving.arms.get(decision.name)
            arm = arms.split.assign(unit) if arms is not None else ""
            name = arms.names[arm] if arms is not None else ""
            policy = arms.policies[arm] if arms is not None else None
            candidates, items_at = serving.candidates.get(decision.name) or self._options(decision)
            choice = self._choose(decision, policy, unit, moment, context, candidates, items_at, name, arm)
            self.counts[f"decisions:{decision.name}"] += 1
            if choice.fallback:
                self.counts[f"fallbacks:{decision.name}"] += 1
            ledger = None if dry else self.ledger
        if ledger is not None:
            ledger.append(choice)  # outside the lock: requests that wait for the disk share one sync
            with self._lock:
                self._remember(choice)
        return choice

    def _choose(
        self, decision: Decision, policy: Policy | None, unit: Id, at: datetime, context: Mapping[str, Any],
        candidates: Candidates, items_at: datetime | None, name: str, arm: str,
    ) -> Choice:  # fmt: skip
        def without(reason: str) -> Choice:
            action = decision.fallback[: decision.slots]
            return Choice(
                id=new_id(), decision=decision.name, unit=unit, at=at, policy=name, arm=arm, mode=decision.mode,
                context=dict(context), action=action, propensities=[1.0] * len(action), fallback=reason, items_at=items_at,
            )  # fmt: skip

        if policy is None:
            if decision.mode != "advise":
                return without(f"decision {decision.name!r} has no released policy")
            from matinee.policies import Uniform

            policy = Uniform()  # no advice on values yet; the guards are shown all the same
        try:
            request = self._request(decision, policy, unit, at, context)
            for scorer in policy.scorers():
                found = propose(scorer, request, candidates)
                if found is not None:
                    candidates = candidates.take(found)
                    break
        except MatineeError as error:
            # Without its features a guard could not see what it guards against: nothing is drawn.
            return without(f"features could not be read: {error}")
        return choose(
            decision, policy, request, candidates, uniforms=self._random.random(decision.slots), policy_name=name, arm=arm,
            items_at=items_at,
        )  # fmt: skip

    def _request(self, decision: Decision, policy: Policy, unit: Id, at: datetime, context: Mapping[str, Any]) -> Request:
        features: dict[str, Any] = {}
        guarding = [f for f in decision.needs if f.key == decision.unit]
        for one in guarding:
            features |= self.units.read(one, unit, at)
        profiled = context.get("profiled") is not False and not (decision.sheltered and features.get(decision.sheltered))
        if profiled and decision.consent is not None:
            from matinee.guards import consents

            profiled = in_force(self.lookup("consents", str(unit), at, consents()), decision.consent, at)[0]
        for scorer in policy.scorers():
            for one in scorer.needs:
                if one.key != decision.unit or one in guarding:
                    continue
                features |= self.units.read(one, unit, at) if profiled else dict.fromkeys(one.names)
        if not profiled:
            context = {**context, "profiled": False}
        return Request(
            decision.name, unit, at, context, features, lambda name, key: self.lookup(name, key, at, self.studio.features[name])
        )

    def lookup(self, name: str, key: Id, at: datetime, features: Features) -> Mapping[str, Any]:
        """Features of any key, for guards that ask about others."""
        return self.units.read(features, key, at)

    def _options(self, decision: Decision) -> tuple[Candidates, datetime | None]:
        if decision.options is not None:
            return decision.options.candidates(), None
        return Candidates(np.array([], np.int64), {}), None

    # -- record

    def record(
        self, choice: Choice | str, fact: Fact | str, row: Mapping[str, Any] | None = None, *, outcome_id: str | None = None,
        at: datetime | None = None,
    ) -> Outcome:  # fmt: skip
        """Log an outcome; see `Studio.record`."""
        choice_id = choice if isinstance(choice, str) else choice.id
        if isinstance(fact, Fact):
            made, kind = fact, self.studio.facts.fact(type(fact))
        else:
            kind = self.studio.facts.fact(fact)
            columns = dict(row or {})
            given = {k: columns.pop(k) for k in ("at", "known") if k in columns}
            made = kind(**columns, **{k: instant(v, k) for k, v in given.items()})
        now = self.studio.clock()
        happened = at or made.at or now
        known = made.known or max(now, happened) if kind.schema.scheduled else made.known or now
        if happened > known + timedelta(minutes=5) and not kind.schema.scheduled:
            raise MatineeError(f"at == {happened.isoformat()!r}, must not be after the time it is known ({known.isoformat()})")
        outcome = Outcome(
            id=outcome_id or _outcome_id(choice_id, kind, made, happened),
            choice=choice_id, fact=kind.schema.name, row=dict(made.row), at=happened, known=known,
        )  # fmt: skip
        with self._lock:
            ledger = self.ledger
        segment = ledger.append(outcome)  # outside the lock, as in `decide`
        with self._lock:
            if outcome.id not in self._seen:
                times = {"at": to_us(happened), "known": to_us(known), "seq": to_us(now)}
                full = {**made.row, **times, "choice": choice_id, "outcome": outcome.id}
                self.units.feed(kind, full, segment)
            self._seen[outcome.id] = None
            if len(self._seen) > 16 * RECENT:
                del self._seen[next(iter(self._seen))]
            self.counts["outcomes"] += 1
        return outcome

    def chosen(self, choice: Choice, action: Id | Sequence[Id], by: str) -> Choice:
        """What a person decided on advice; see `Studio.choose`."""
        import msgspec

        taken = list(action) if isinstance(action, list | tuple) else [action]
        options = {a.option: a for a in choice.advice}
        for one in taken:
            if one not in options:
                raise UnknownNameError("option", one, [str(o) for o in options])
            if options[one].blocked_by:
                raise MatineeError(f"option {one!r} is kept out by {options[one].blocked_by!r}, must not be chosen")
        if not by:
            raise MatineeError("by == '', must name the person who decided")
        made: Choice = msgspec.structs.replace(
            choice, id=new_id(), action=taken, chosen_by=by, at=self.studio.clock(), context={**choice.context, "advice": choice.id}
        )
        with self._lock:
            ledger = self.ledger
        ledger.append(made)
        with self._lock:
            self._remember(made)
        return made

    def _remember(self, choice: Choice) -> None:
        self._recent[choice.id] = choice
        self._order.append(choice.id)
        if len(self._order) > RECENT:
            self._recent.pop(self._order.popleft(), None)

    def choice(self, choice_id: str) -> Choice | None:
        """A choice made by this process lately, by its id."""
        return self._recent.get(choice_id)

    def appended(self, kind: type[Fact], rows: pl.DataFrame) -> None:
        """Facts were appended by this process: features see them at once."""
        import polars as pl

        if not any(kind in f.facts for f in self.studio.features.values()):
            return
        plain = rows.with_columns(pl.col("at", "known").cast(pl.Int64))
        with self._lock:
            self.units.feed_appended(kind, plain.iter_rows(named=True), to_us(self.studio.clock()))

    # -- reload

    def refresh(self) -> bool:
        """Take up new releases and a newer generation; requests in flight end on what they began with."""
        newer = self.store.refresh()
        if not newer and self.studio.releases.version() == self._serving.version:
            return False
        made = self._load()
        with self._lock:
            self._serving = made
            if newer:
                stream = self.ledger.stream if "ledger" in vars(self) else ""
                about = self.store.manifest
                as_of, pinned = to_us(instant(about["as_of"])), to_us(instant(about["pinned"]))
                self.units.restart(int(about.get("sealed", {}).get(stream, 0)), as_of, pinned)
        return True

    def forget(self) -> None:
        """Let go of everything held in memory about units, after an erasure."""
        self.store.refresh()
        with self._lock:
            self.units.events.clear()
            self.units.appended.clear()
            self.units.restart(0)
            self._recent.clear()
            self._order.clear()
            self._serving = self._load()

    def _load(self) -> Serving:
        version = self.studio.releases.version()
        arms: dict[str, Arms] = {}
        candidates: dict[str, tuple[Candidates, datetime | None]] = {}
        for name, decision in self.studio.decisions.items():
            release = self.studio.releases.live(name)
            if release is not None:
                split = Split(f"{name}@{release.number}", {a.name: a.share for a in release.arms}, salt=release.salt)
                policies = {a.name: self.studio.policy(a.policy) for a in release.arms}
                arms[name] = Arms(release, split, policies, {a.name: a.policy for a in release.arms})
            if decision.options is not None:
                candidates[name] = (decision.options.candidates(), None)
            else:
                published = published_candidates(self.store, name)
                if published is not None:
                    candidates[name] = (published, instant(self.store.manifest["as_of"]))
        return Serving(arms, candidates, version, self.store.generation)

    # -- around it

    def features_of(self, features: Features, key: Id, at: datetime) -> dict[str, Any]:
        """Features of a key as of a time."""
        with self._lock:
            return self.units.read(features, key, at)

    def preview(
        self, decision: Decision, unit: Id, context: Mapping[str, Any], policy: Policy | None = None
    ) -> tuple[Request, Candidates, Policy | None, str]:
        """What a decision for a unit would be made from: the request, the candidates, and who would decide."""
        arms = self._serving.arms.get(decision.name)
        arm = arms.split.assign(unit) if arms is not None else ""
        name = arms.names[arm] if arms is not None else ""
        chosen = policy or (arms.policies[arm] if arms is not None else None)
        candidates, _ = self._serving.candidates.get(decision.name) or self._options(decision)
        at = self.studio.clock()
        if chosen is None:
            return Request(decision.name, unit, at, context, {}), candidates, None, name
        return self._request(decision, chosen, unit, at, context), candidates, chosen, name

    def candidates(self, decision: str) -> Candidates:
        """The candidates that are served now."""
        found = self._serving.candidates.get(decision)
        return found[0] if found is not None else self._options(self.studio.decision(decision))[0]

    def sample_request(self, decision: Decision, *, most: int = 500) -> tuple[Request, Candidates]:
        """A request to try a policy with, and at most so many of its candidates."""
        candidates, _ = self._serving.candidates.get(decision.name) or self._options(decision)
        if decision.entity is not None and len(candidates) == 0:
            candidates = catalogue.build(decision, self.studio.facts, self._item_features(decision), self.studio.clock())
        unit, context = self._sample_unit(decision)
        features: dict[str, Any] = {}
        for policy in self.studio.policies(decision.name):
            for scorer in self.studio.policy(policy).scorers():
                for one in scorer.needs:
                    if one.key == decision.unit:
                        features |= self.units.read(one, unit, self.studio.clock())
        some = candidates.take(np.arange(min(most, len(candidates))))
        return Request(decision.name, unit, self.studio.clock(), context, features), some

    def _item_features(self, decision: Decision) -> list[Features]:
        return [f for f in self.studio.features.values() if f.key == decision.entity and f.key != decision.unit]

    def _sample_unit(self, decision: Decision) -> tuple[Id, dict[str, Any]]:
        import json

        found = self.studio.choices(decision.name, limit=1)
        if len(found):
            row = found.row(0, named=True)
            unit = int(row["unit"]) if row["unit_type"] == "int" else row["unit"]
            return unit, json.loads(row["context"])
        kinds = {f.key_kind for f in self.studio.features.values() if f.key == decision.unit}
        return (0 if "int" in kinds else "nobody"), {}

    def health(self) -> dict[str, Any]:
        """What this process serves and how it has fared since it started."""
        return {
            "decisions": sorted(self._serving.arms),
            "generation": self._serving.generation,
            "as_of": self.store.manifest.get("as_of"),
            "counts": dict(self.counts),
            "stream": self.ledger.stream if "ledger" in vars(self) else None,
        }

    def close(self) -> None:
        """Flush and close the log."""
        if "ledger" in vars(self):
            self.ledger.close()


def _outcome_id(choice: str, kind: type[Fact], made: Fact, at: datetime) -> str:
    """The same outcome of the same choice has the same id, so that it counts once however often it is sent."""
    import hashlib
    import json

    text = json.dumps([choice, kind.schema.name, made.row, to_us(at)], default=str, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
