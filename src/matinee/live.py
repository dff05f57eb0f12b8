"""Serving in this process: live policies, published candidates, online features, the log. No table is read on the path.

request -> the unit's features -> candidates -> guards -> scores -> draw -> write-ahead log -> reply.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from matinee import catalogue, erasure
from matinee import guards as guarding
from matinee.choices import Choice, Id, Outcome, new_id
from matinee.decisions import Decision, choose
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.experiments import Split
from matinee.facts import Fact
from matinee.ledger import Ledger
from matinee.online import OnlineStore
from matinee.policies import Candidates, Policy, Request
from matinee.publishing import published_candidates
from matinee.releases import Release
from matinee.rights import in_force
from matinee.scorers import propose
from matinee.times import instant, to_us
from matinee.unit_features import MANY_EVENTS, UnitFeatures, watched_facts

if TYPE_CHECKING:
    import polars as pl

    from matinee.features import Features
    from matinee.studio import Studio

RECENT = 4096  # choices remembered in memory, so that their outcomes find their decision without a look into the log


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
    windows: dict[tuple[str, str], int | None]  # decision and fact -> snapshot of the windows that its candidates carry
    version: tuple[int, float]
    generation: int


@dataclass(frozen=True)
class Rehearsed:
    """What would be chosen, and what it was made from.

    Attributes:
        choice: Not logged.
        request: For whom and when, with the features that were read.
        candidates: Before the guards.
        policy: Who chose; None where nothing is released.
    """

    choice: Choice
    request: Request
    candidates: Candidates
    policy: Policy | None


class Live:
    """The serving side of a studio in one process. Safe to call from several threads."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.store = OnlineStore(studio.root / "online")
        self.units = UnitFeatures(studio, self.store)
        self._polled: dict[str, tuple[int, int | None, int]] = {}  # fact -> generation, snapshot, next number
        self.counts: Counter[str] = Counter()
        self._lock = threading.RLock()  # what decisions are made from is swapped as a whole
        self._reloading = threading.Lock()  # one at a time looks for what is new; taken before `_lock`
        # A stream of its own: a simulated world may be made of the same seed.
        self._random = np.random.default_rng(np.random.SeedSequence(studio.seed).spawn(1)[0])
        self._recent: dict[str, Choice] = {}
        self._order: deque[str] = deque()
        self._seen: dict[bytes, None] = {}  # digests of outcome ids: callers may write a person into an id
        self._erased = erasure.latest(studio)
        self._serving = self._load(self.store)

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
            ledger = None if dry else self.ledger
            if ledger is not None:  # a preview is no decision
                self.counts[f"decisions:{decision.name}"] += 1
                self.counts[f"fallbacks:{decision.name}"] += choice.fallback is not None
        if ledger is not None:
            ledger.append(choice)  # outside the lock: requests that wait for the disk share one sync
            with self._lock:
                self._remember(choice)
        return choice

    def rehearse(
        self, decision: Decision, unit: Id, context: Mapping[str, Any], *, policy: str = "", at: datetime | None = None,
        draw: int = 0,
    ) -> Rehearsed:  # fmt: skip
        """What a policy would choose: nothing is logged, and the same question has the same answer.

        Args:
            decision: Which decision.
            unit: For whom.
            context: What is known of the moment.
            policy: A saved policy of the decision; who is live for the unit where empty.
            at: The moment; now where not given. Features and candidates are those that are held now.
            draw: Which of the possible draws: two policies with the same number are compared under the same luck.

        Raises:
            UnknownNameError: If no policy of the decision has that name.
        """
        now = self.studio.clock()
        moment = now if at is None else instant(at)
        held = max(moment, now)  # of the past only what is held now is known
        found, arm = None, ""
        if policy:
            if policy not in self.studio.policies(decision.name):
                raise UnknownNameError("policy", policy, self.studio.policies(decision.name))
            found = self.studio.policy(policy)
        luck = np.random.default_rng([self.studio.seed or 0, draw, zlib.crc32(str(unit).encode())])
        with self._lock:
            serving = self._serving
            arms = serving.arms.get(decision.name)
            if found is None and arms is not None:
                arm = arms.split.assign(unit)
                found, policy = arms.policies[arm], arms.names[arm]
            candidates, items_at = serving.candidates.get(decision.name) or self._options(decision)
            choice = self._choose(
                decision, found, unit, moment, context, candidates, items_at, policy, arm, luck.random(decision.slots),
                held,
            )  # fmt: skip
            plain = Request(decision.name, unit, moment, context, {})
            try:
                request = plain if found is None else self._request(decision, found, unit, moment, context, held)
            except MatineeError:
                request = plain  # the choice says that the features could not be read
        return Rehearsed(choice, request, candidates, found)

    def _choose(
        self, decision: Decision, policy: Policy | None, unit: Id, at: datetime, context: Mapping[str, Any],
        candidates: Candidates, items_at: datetime | None, name: str, arm: str, uniforms: np.ndarray[Any, Any] | None = None,
        held: datetime | None = None,
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
            request = self._request(decision, policy, unit, at, context, held)
            narrowed = self._proposed(policy, request, candidates)
        except MatineeError as error:
            # Without its features a guard could not see what it guards against: nothing is drawn.
            return without(f"features could not be read: {error}")

        def among(these: Candidates) -> Choice:
            return choose(
                decision, policy, request, these, policy_name=name, arm=arm, items_at=items_at,
                uniforms=self._random.random(decision.slots) if uniforms is None else uniforms,
            )  # fmt: skip

        made = among(narrowed)
        if narrowed is candidates or len(made.action) >= decision.slots or decision.mode != "decide":
            return made
        # The guards kept out most of what was proposed from the whole catalogue: propose again from what they allow.
        try:
            allowed = guarding.apply(decision.guards, request, candidates).allowed.nonzero()[0]
            again = self._proposed(policy, request, candidates.take(allowed))
        except MatineeError:
            return made
        if len(again) <= len(made.candidates):
            return made  # there is nothing else to propose
        return msgspec.structs.replace(among(again), blocked=made.blocked)

    @staticmethod
    def _proposed(policy: Policy, request: Request, candidates: Candidates) -> Candidates:
        """What the policy's scorer proposes out of a large catalogue; all candidates where it proposes nothing."""
        for scorer in policy.scorers():
            found = propose(scorer, request, candidates)
            if found is not None:
                return candidates.take(found)
        return candidates

    def _request(
        self, decision: Decision, policy: Policy, unit: Id, at: datetime, context: Mapping[str, Any],
        held: datetime | None = None,
    ) -> Request:  # fmt: skip
        """What a policy decides from; `held` is when its features are read, where that is another moment."""
        held = held or at
        features: dict[str, Any] = {}
        guarding = [f for f in decision.needs if f.key == decision.unit]
        for one in guarding:
            features |= self.units.read(one, unit, held)
        profiled = context.get("profiled") is not False and not (decision.sheltered and features.get(decision.sheltered))
        if profiled and decision.consent is not None:
            from matinee.guards import consents

            profiled = in_force(self.lookup("consents", str(unit), held, consents()), decision.consent, held)[0]
        for scorer in policy.scorers():
            for one in scorer.needs:
                if one.key != decision.unit or one in guarding:
                    continue
                features |= self.units.read(one, unit, held) if profiled else dict.fromkeys(one.names)
        if not profiled:
            context = {**context, "profiled": False}
        return Request(
            decision.name, unit, at, context, features,
            lambda name, key: self.lookup(name, key, held, self.studio.features[name]),
        )  # fmt: skip

    def lookup(self, name: str, key: Id, at: datetime, features: Features) -> Mapping[str, Any]:
        """Features of any key, for guards that ask about others."""
        with self._lock:
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
        seen = blake2b(outcome.id.encode(), digest_size=16).digest()
        with self._lock:
            if seen not in self._seen:
                times = {"at": to_us(happened), "known": to_us(known), "seq": to_us(now)}
                full = {**made.row, **times, "choice": choice_id, "outcome": outcome.id}
                self.units.feed(kind, full, segment)
            self._seen[seen] = None
            if len(self._seen) > 16 * RECENT:
                del self._seen[next(iter(self._seen))]
            self.counts["outcomes"] += 1
        return outcome

    def chosen(self, choice: Choice, action: Id | Sequence[Id], by: str) -> Choice:
        """What a person decided on advice; see `Studio.choose`."""
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
            self.units.feed_appended(kind, plain.iter_rows(named=True))

    # -- reload

    def refresh(self) -> bool:
        """Take up new releases, a newer generation, and what others said lately; True when there was any of it.

        Requests in flight end on what they began with. What cannot be taken up raises, and serving goes on as before.
        """
        with self._reloading:
            # First, so that a withdrawn consent and an erasure bite also where a release cannot be loaded.
            changed = self._poll()
            newer = self.store.newer()
            if newer is None and self.studio.releases.version() == self._serving.version:
                return changed
            made = self._load(newer or self.store)
            with self._lock:
                self._serving = made
                if newer is not None:
                    self._turn_to(newer)
            if newer is not None:
                self._poll()
            return True

    def poll(self) -> bool:
        """Take in what others said lately, such as a consent withdrawn; True when they said anything."""
        with self._reloading:
            return self._poll()

    def _poll(self) -> bool:
        """Who was erased, and rows of the watched facts since the generation, whoever appended them, windows too: one
        look at each table's newest snapshot.
        """
        import polars as pl

        about, generation, taken = self.store.manifest, self.store.generation, self._let_go_of_erased()
        for fact in watched_facts(self.studio):
            name = fact.schema.name
            if name not in about.get("following", {}):
                continue  # in no published state: its features are read from the tables
            seen = self._polled.get(name, (0, None, 0))
            if seen[:2] == (generation, self.studio.facts.snapshot(fact)):
                continue
            snapshot, following = self.studio.facts.edge(fact)
            if seen[0] == generation:
                new = pl.col("seq") >= seen[2]
            else:
                new = (pl.col("seq") >= about["following"][name]) | (pl.col("known") > instant(about["as_of"]))
            rows = self.studio.facts.scan(fact, snapshot=snapshot).filter(new).collect()
            with self._lock:
                if len(rows) > MANY_EVENTS:
                    self.units.unheld.add(fact)
                else:
                    plain = rows.with_columns(pl.col("at", "known").cast(pl.Int64))
                    self.units.feed_appended(fact, plain.iter_rows(named=True))
            self._polled[name] = (generation, snapshot, following)
            taken |= len(rows) > 0
        return self._take_windows(self._serving) or taken

    def _take_windows(self, serving: Serving) -> bool:
        """Licences and other windows as they are known now, where anybody appended to them since they were taken up."""
        import polars as pl

        taken = False
        for name, (candidates, items_at) in list(serving.candidates.items()):
            for fact in self.studio.decisions[name].windows if items_at is not None else ():
                snapshot = self.studio.facts.snapshot(fact)
                if serving.windows.get((name, fact.schema.name)) == snapshot:
                    continue
                known = catalogue.windows_of(fact, self.studio.facts, pl.Series(candidates.ids), self.studio.clock())
                candidates = Candidates(candidates.ids, {**candidates.columns, **known})
                with self._lock:
                    serving.candidates[name] = (candidates, items_at)
                serving.windows[name, fact.schema.name] = snapshot
                taken = True
        return taken

    def _turn_to(self, store: OnlineStore) -> None:
        stream = self.ledger.stream if "ledger" in vars(self) else ""
        self.store = store
        self.units.restart(store, int(store.manifest.get("sealed", {}).get(stream, 0)))

    def _let_go_of_erased(self) -> bool:
        """Drop what memory holds of whoever was erased since the last look, by this process or another."""
        number = erasure.latest(self.studio)
        if number == self._erased:
            return False
        gone = erasure.since(self.studio, self._erased)
        is_about = gone.finder()
        units = {d.name: d.unit for d in self.studio.decisions.values()}
        with self._lock:
            self.units.forget(is_about)
            for one in [c.id for c in self._recent.values() if is_about({units.get(c.decision, ""): c.unit, "choice": c.id})]:
                del self._recent[one]
        self._erased = number
        for forget in self.studio.forgetting:
            forget()
        return True

    def _load(self, store: OnlineStore) -> Serving:
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
                published = published_candidates(store, name)
                if published is not None:
                    candidates[name] = (published, instant(store.manifest["as_of"]))
        held = store.manifest.get("windows", {})
        windows = {(n, w.schema.name): held.get(w.schema.name) for n in candidates for w in self.studio.decisions[n].windows}
        made = Serving(arms, candidates, windows, version, store.generation)
        self._take_windows(made)
        return made

    # -- around it

    def features_of(self, features: Features, key: Id, at: datetime) -> dict[str, Any]:
        """Features of a key as of a time."""
        with self._lock:
            return self.units.read(features, key, at)

    def preview(
        self, decision: Decision, unit: Id, context: Mapping[str, Any], policy: Policy | None = None
    ) -> tuple[Request, Candidates, Policy | None, str]:
        """What a decision for a unit would be made from: the request, the candidates, and who would decide."""
        with self._lock:  # as in `decide`: an event that comes while a unit is loaded would count twice
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
                        features |= self.features_of(one, unit, self.studio.clock())
        some = candidates.take(np.arange(min(most, len(candidates))))
        return Request(decision.name, unit, self.studio.clock(), context, features), some

    def _item_features(self, decision: Decision) -> list[Features]:
        return [f for f in self.studio.features.values() if f.key == decision.entity and f.key != decision.unit]

    def _sample_unit(self, decision: Decision) -> tuple[Id, dict[str, Any]]:
        import json

        found = self.studio.choices(decision.name, limit=1, columns=["unit", "unit_type", "context"])
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
