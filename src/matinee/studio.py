"""The user's one object: `open("./acme")`. Facts, training, evidence, releases, decisions, lineage of one studio."""

from __future__ import annotations

import json
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from matinee import domain as domains
from matinee.checks import must
from matinee.choices import Choice, Id, Outcome
from matinee.decisions import Decision
from matinee.disk import write_whole
from matinee.exceptions import (
    ConsentError,
    DeclarationError,
    MatineeError,
    ReleaseError,
    StorageError,
    UnknownNameError,
)
from matinee.facts import Fact
from matinee.graph import Graph, Impact
from matinee.policies import Candidates, Policy, Request, Scorer, from_spec
from matinee.quarantine import Quarantine
from matinee.registry import Registry
from matinee.releases import Release, Releases
from matinee.rights import Consent
from matinee.scorers import Shelf, Storable, Trained
from matinee.store import Appended, FactStore
from matinee.times import utc_now

if TYPE_CHECKING:
    import polars as pl

    from matinee.erasure import Erased
    from matinee.features import Features
    from matinee.judge import Evaluation
    from matinee.live import Live
    from matinee.log_weights import LogWeights
    from matinee.models import Model
    from matinee.tables import Tables
    from matinee.training import Allowed
    from matinee.trial import Trial

LAYOUT = 1
CONFIG = "matinee.toml"
PIN_AGE = timedelta(days=365)


class Studio:
    """A folder that holds everything: tables, log, models, releases. Made and opened with `matinee.open`."""

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] = utc_now, engine: str | None = None, seed: int | None = None
    ) -> None:
        self.root, self.clock, self.seed = root, clock, seed
        self.config = _read_config(root)
        self.engine: str | None = engine or self.config.get("engine")
        self.registry = Registry(root / "studio.db", clock)
        self.graph = Graph(self.registry)
        self.quarantine = Quarantine(root / "quarantine")
        self.releases = Releases(self.registry, self.graph)
        self._features: dict[str, Features] = {}
        self._decisions: dict[str, Decision] = {}
        self.domains: dict[str, domains.Domain] = {}
        self.shelf = Shelf(root / "models", self._features)
        self.modules: list[str] = []
        self._live: Live | None = None
        self._making_live = threading.RLock()  # a second one would take the place of the first, and of what that was told
        self.forgetting: list[Callable[[], None]] = []  # called where serving learns that somebody was erased
        self.facts.register(Consent)
        for name in self.config.get("domains", []):
            self.use(domains.load(name))
        for module in self.config.get("modules", []):
            for one in domains.load_file(root / module):
                self.use(one)

    # -- what it is made of

    @cached_property
    def tables(self) -> Tables:
        """The Iceberg tables."""
        from matinee.tables import Tables

        return Tables(self.root)

    @cached_property
    def facts(self) -> FactStore:
        """The facts of this studio."""
        def relog(outcomes: Sequence[Outcome]) -> tuple[int, int, Sequence[str]]:
            from matinee.sealing import relog

            return relog(self, outcomes)

        return FactStore(self.tables, self.quarantine, self.registry, self.graph, self.clock, relog)

    def use(self, domain: domains.Domain, *, module: str | Path | None = None) -> Self:
        """Add a domain: make its tables, know its features and decisions.

        Args:
            domain: What to add.
            module: The file that declares it, where it is neither installed nor named in `matinee.toml`: the gate of a
                release loads it from there in a fresh process.
        """
        if module is not None:
            self.modules.append(str(Path(module).resolve()))
        self.domains[domain.name] = domain
        for fact in domain.facts:
            self.facts.register(fact)
        for features in domain.features:
            self.add_features(features)
        for decision in domain.decisions:
            self.add_decision(decision)
        return self

    def add_features(self, features: Features) -> None:
        """Know a feature set by its name."""
        known = self._features.get(features.name)
        if known is not None and known.hash != features.hash:
            raise DeclarationError(
                f"features {features.name!r} are declared twice with different contents, must have two names"
            )
        self._features[features.name] = features
        for fact in features.facts:
            self.facts.fact(fact)
        self.graph.put(
            f"features://{features.name}@{features.hash[:10]}",
            features.to_json(),
            {f"fact://{f.schema.name}": "read by" for f in features.facts},
        )

    def add_decision(self, decision: Decision) -> None:
        """Know a decision by its name, with the features that its guards read."""
        self._decisions[decision.name] = decision
        for features in decision.needs:
            self.add_features(features)
        uses = {f"features://{f.name}@{f.hash[:10]}": "guards" for f in decision.needs}
        uses |= {f"fact://{w.schema.name}": "guards" for w in decision.windows}
        entity = [n for n in self.facts.names() if decision.entity == self.facts.fact(n).schema.key]
        uses |= {f"fact://{n}": "chosen among" for n in entity if self.facts.fact(n).schema.entity}
        uses |= {f"fact://{f.schema.name}": "rewards" for f in (decision.reward.facts if decision.reward else ())}
        data = {
            "unit": decision.unit,
            "among": decision.entity or [o.id for o in decision.options.options]
            if decision.options
            else decision.entity,
            "slots": decision.slots,
            "mode": decision.mode,
            "guards": decision.guard_names,
            "reward": repr(decision.reward),
        }
        self.graph.put(f"decision://{decision.name}", data, uses)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decisions by name."""
        return self._decisions

    @property
    def features(self) -> Mapping[str, Features]:
        """Feature sets by name."""
        return self._features

    def decision(self, which: str | Decision) -> Decision:
        """The decision of that name; a decision object is added first when it is new."""
        if isinstance(which, Decision):
            if which.name not in self._decisions:
                self.add_decision(which)
            return which
        if which not in self._decisions:
            raise UnknownNameError("decision", which, self._decisions)
        return self._decisions[which]

    def domain_of(self, decision: str) -> domains.Domain | None:
        """The domain that brought the decision, or None for one that was added by itself."""
        return next((d for d in self.domains.values() if decision in {x.name for x in d.decisions}), None)

    # -- facts

    def append(self, fact: str | type[Fact], data: Any, **options: Any) -> Appended:
        """Append a frame, an Arrow table, rows, or a file by its path: one atomic commit, bad rows to quarantine."""
        if isinstance(data, str | Path):
            return self.facts.append_file(fact, data, **options)
        return self.facts.append(fact, data, **options)

    def as_of(
        self, fact: str | type[Fact], at: datetime | str | None = None, known: datetime | str | None = None
    ) -> pl.DataFrame:
        """The fact as it stood at a time, as far as it was known."""
        return self.facts.as_of(fact, at, known)

    def erase(self, unit: str, key: Id, *, by: str = "") -> Erased:
        """Erase a person: no data file, log, online store or pinned snapshot holds them afterwards."""
        from matinee.erasure import erase

        return erase(self, unit, key, by=by)

    # -- models and policies

    def train(
        self,
        decision: str | Decision,
        model: Model,
        *,
        on: Sequence[Features | Scorer],
        name: str | None = None,
        labels: pl.DataFrame | Callable[[Any], pl.DataFrame] | None = None,
        until: datetime | float | None = None,
        context: Sequence[str] = (),
        clock: bool = False,
        action: bool = False,
        seed: int = 0,
        consent: str | None = None,
        dry: bool = False,
        weights: LogWeights | None = None,
        since: datetime | None = None,
        proxy: bool = False,
    ) -> Trained:
        """Train a scorer for a decision: point in time, pinned, recorded in the lineage, reproducible to the bit.

        Args:
            decision: For whom it scores.
            model: The learner, not yet fitted.
            on: Feature sets of the unit and of the candidates, and other scorers whose scores are columns.
            name: Name of the model; `DECISION-ranker` where not given.
            labels: What to learn: a frame (`unit`, `at`, `action`, `y`, ...), or a function of the pinned source that
                returns one, and sees the rows of units with consent only. Where not given, the rewards of the logged
                choices.
            until: Learn from the choices before this time only, or from this first share of them, such as 2/3: a
                policy is judged on the choices that came after those it learned from.
            context: Context keys to read as columns.
            clock: Whether the hour and the weekday (UTC) are columns.
            action: Whether the candidate's id is a column.
            seed: Of everything random.
            consent: A further purpose that units must have allowed, beside the one that the decision names. Rows of
                units without consent in force at the time of training are left out, wherever the labels come from.
            dry: Fit and return, record nothing.
            weights: Weigh the rows of the log against what it chose to show; all alike where not given.
            since: Learn from the choices from this time on only.
            proxy: Learn from the decision's proxy instead of its reward; evidence shows both.
        """
        from matinee.workshop import train

        return train(
            self, self.decision(decision), model, on=on, name=name, labels=labels, context=context, clock=clock,
            action=action, seed=seed, consent=consent, dry=dry, weights=weights, since=since, until=until,
            proxy=proxy,
        )  # fmt: skip

    def source(self, decision: str | Decision, *, consent: str | None = None) -> Allowed:
        """The facts as far as a scorer of one's own may learn from them for a decision: pinned, of units with consent.

        Args:
            decision: For whom it will score. Rows of units without the consent that it names, in force now, are left out.
            consent: A further purpose that units must have allowed.
        """
        from matinee.workshop import source

        return source(self, self.decision(decision), consent)

    def keep(
        self,
        name: str,
        scorer: Storable,
        *,
        facts: Sequence[type[Fact]] | Allowed = (),
        uses: Sequence[str] = (),
        record: Mapping[str, Any] | None = None,
        learned_until: datetime | None = None,
    ) -> str:
        """Keep a scorer of one's own under the next version of its name, drawn in the lineage with the facts it saw.

        Args:
            name: Without a version.
            scorer: What to keep.
            facts: What it learned from, to be pinned: a `source`, or facts that are about nobody whom a decision asks
                for consent.
            uses: URIs of what else went into it.
            record: What else to say of it in the lineage.
            learned_until: Time of the newest row that it learned from: its policies are judged on later choices. Now
                where it learned from facts and no time is given.

        Raises:
            ConsentError: For facts about units whom a decision asks for consent, which no `source` has asked.
        """
        from matinee.workshop import keep

        return keep(self, name, scorer, facts=facts, uses=uses, record=record, learned_until=learned_until)

    def scorer(self, name: str) -> Scorer:
        """A kept scorer, `name@version`, or the newest version of a name."""
        return self.shelf.load(name)

    def save_policy(self, decision: str | Decision, policy: Policy, *, note: str = "") -> str:
        """Give a policy a name, `home@3`; the same policy again keeps its name."""
        decision = self.decision(decision)
        spec = policy.spec()
        known = self.policies(decision.name)
        for name, data in known.items():
            if data["spec"] == spec:
                return name
        for scorer in policy.scorers():
            if scorer.name not in self.shelf.names():
                raise ReleaseError(
                    f"scorer {scorer.name!r} is not kept in this studio, must be: studio.keep(name, scorer)"
                )
        name = f"{decision.name}@{self.registry.reserve(f'policy:{decision.name}')}"
        self.graph.put(
            f"policy://{name}",
            {"spec": spec, "decision": decision.name, "note": note, "text": repr(policy)},
            {f"model://{s.name}": "scored by" for s in policy.scorers()},
        )
        return name

    def policies(self, decision: str) -> dict[str, Mapping[str, Any]]:
        """Saved policies of a decision by name, oldest first."""
        return {n.name: n.data for n in self.graph.nodes("policy") if n.data.get("decision") == decision}

    def policy(self, which: str | Policy) -> Policy:
        """The policy of that name, ready to decide."""
        if isinstance(which, Policy):
            return which
        for node in self.graph.nodes("policy"):
            if node.name == which and node.data:
                found = from_spec(node.data["spec"], self.scorer)
                # Known by name from here on, so that they are published: without that each request would read tables.
                for one in (f for scorer in found.scorers() for f in scorer.needs if f.name not in self._features):
                    self.add_features(one)
                return found
        raise UnknownNameError("policy", which, [n.name for n in self.graph.nodes("policy")])

    # -- evidence and release

    def evaluate(self, decision: str | Decision, policy: str | Policy, **options: Any) -> Evaluation:
        """What a policy would be worth, off-policy, from the logged choices; refuses where they cannot tell.

        Args:
            decision: Which decision.
            policy: A policy or the name of a saved one.
            **options: `against` (name of a policy, "logged" by default), `q` (a reward model), `since`, `until`,
                `estimators`; see `judge.evaluate`.
        """
        from matinee.judge import evaluate

        return evaluate(self, self.decision(decision), policy, **options)

    def release(
        self,
        decision: str | Decision,
        policy: str | Policy,
        share: float = 0.05,
        *,
        baseline: float = 0.0,
        note: str = "",
        by: str = "",
        without_evidence: str | None = None,
        guards_changed: str | None = None,
    ) -> Release:
        """Put a policy live for a share of the units, after its gates.

        The first policy of a decision decides for everyone whatever the share: there is nothing yet to share with.

        Args:
            decision: Which decision.
            policy: A policy or the name of a saved one.
            share: Share of the units it decides for; 1 makes it the live policy.
            baseline: Share of the units to hold back on today's live policy, so that the worth of what follows stays
                measurable.
            note: Why, for those who come after.
            by: Who releases.
            without_evidence: The reason for releasing a policy that nothing was measured about.
            guards_changed: What changed in the guards since the last release, where they changed.

        Raises:
            ReleaseError: With the gate that was not passed and what would pass it.
        """
        from matinee.releasing import release

        made = release(
            self, self.decision(decision), policy, share, baseline=baseline, note=note, by=by,
            without_evidence=without_evidence, guards_changed=guards_changed,
        )  # fmt: skip
        return self._taken_up(made)

    def rollback(self, decision: str | Decision, to: int | None = None, *, note: str = "", by: str = "") -> Release:
        """Make the release before the present one live again, or release `to`."""
        return self._taken_up(self.releases.roll_back(self.decision(decision).name, to=to, note=note, by=by))

    def _taken_up(self, made: Release) -> Release:
        """The release, once this process serves by it."""
        self.refresh_served()
        return made

    def trial(self, decision: str | Decision, *, planned: int = 10_000) -> Trial:
        """Read the live release as an experiment: value by arm, sample ratio, a difference that is valid at any look."""
        from matinee.trial import trial

        return trial(self, self.decision(decision), planned=planned)

    def log(self, choices: Iterable[Choice]) -> int:
        """Log choices that were made elsewhere, such as in an imported file, and seal them; those known already are left out."""
        from matinee.sealing import log

        return log(self, choices)

    def evidence(self, decision: str, policy: str | None = None) -> list[dict[str, Any]]:
        """Everything that was ever measured or refused about a decision, newest first."""
        rows = self.registry.query(
            "SELECT id, policy, against, method, data, at FROM evidence WHERE decision = ? ORDER BY id DESC", decision
        )
        found = [
            {"id": r[0], "policy": r[1], "against": r[2], "method": r[3], **json.loads(r[4]), "at": r[5]} for r in rows
        ]
        return [e for e in found if policy is None or e["policy"] == policy]

    # -- serving

    @property
    def live(self) -> Live:
        """What serves decisions in this process: live policies, published features, the log."""
        found = self._live
        if found is not None:
            return found
        from matinee.live import Live

        with self._making_live:  # the first requests come from several threads at once
            found = self._live
            if found is None:
                found = Live(self)
                self.facts.listeners.append(found.appended)  # before anybody else can have it
                self._live = found
        return found

    def decide(
        self,
        decision: str | Decision,
        unit: Id | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        dry: bool = False,
        **more: Any,
    ) -> Choice:
        """Choose, within the guards, and log the choice with its probability.

        Args:
            decision: Which decision.
            unit: Whom or what it is for; may also be given by the unit's own name: `member=42`.
            context: What is known of the moment; further keywords are added to it: `device="tv"`.
            at: The moment; now where not given.
            dry: Choose but log nothing (a preview).
        """
        found = self.decision(decision)
        if unit is None:
            unit = more.pop(found.unit, None)
        if unit is None:
            raise MatineeError(
                f"{found.unit} is missing, must be given: studio.decide({found.name!r}, {found.unit}=...)"
            )
        return self.live.decide(found, unit, {**(context or {}), **more}, at=at, dry=dry)

    def record(
        self, choice: Choice | str, fact: Fact | str, row: Mapping[str, Any] | None = None, *, id: str | None = None,
        at: datetime | None = None,
    ) -> Outcome:  # fmt: skip
        """Log an outcome of a choice: a fact tied to it. The same outcome twice counts once."""
        return self.live.record(choice, fact, row, outcome_id=id, at=at)

    def choose(self, choice: Choice, action: Id | Sequence[Id], by: str) -> Choice:
        """Record what a person decided on the advice of a choice in `advise` mode."""
        return self.live.chosen(choice, action, by)

    def features_of(self, name: str, key: Id) -> dict[str, Any]:
        """Online features of a key, as of now."""
        if name not in self._features:
            raise UnknownNameError("features", name, self._features)
        return self.live.features_of(self._features[name], key, self.clock())

    def sample_request(self, decision: str, *, most: int = 500) -> tuple[Request, Candidates]:
        """A request and at most so many candidates to try a policy with: of the newest choice, else of an invented unit."""
        return self.live.sample_request(self.decision(decision), most=most)

    def health(self) -> dict[str, Any]:
        """How serving is doing in this process."""
        return self.live.health()

    def refresh(self) -> bool:
        """Take up newly released policies and newly published features; True when something changed."""
        return self.live.refresh()

    def refresh_served(self) -> None:
        """As `refresh`, where this process serves at all or is about to."""
        with self._making_live:
            found = self._live
        if found is not None:
            found.refresh()

    def publish(self) -> dict[str, Any]:
        """Build online features and candidates from the tables, for serving to take up."""
        from matinee.publishing import publish

        return publish(self)

    def seal(self) -> Any:
        """Move the log into the tables, exactly once."""
        from matinee.sealing import seal

        return seal(self)

    def compact(self, fact: str | None = None) -> list[Any]:
        """Merge small files and expire old snapshots, of one table or of all."""
        names = [fact] if fact else self.tables.names()
        for name in names:
            if not self.tables.exists(name):
                raise UnknownNameError("table", name, self.tables.names())
        reports = [self.tables.compact(name) for name in names]
        for name in names:
            self.tables.expire(name)
        return reports

    # -- insight

    def choices(
        self,
        decision: str,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Sealed choices of a decision, newest first.

        Args:
            decision: Its name.
            since: Choices from this time on.
            until: Choices before this time.
            limit: This many at most.
            columns: These columns only, in this order: the others are not read. All of them where not given.
        """
        from matinee.sealing import choices

        return choices(self, decision, since=since, until=until, limit=limit, columns=columns)

    def impact(self, uri: str) -> Impact:
        """What depends on a thing."""
        return self.graph.impact(uri)

    def leverage(self) -> Any:
        """What the platform gives for free: the leverage report."""
        from matinee.leverage import leverage

        return leverage(self)

    def doctor(self) -> Any:
        """What is wrong with this studio and how to mend it."""
        from matinee.doctor import examine

        return examine(self)

    def require_consent(self, person: str, purpose: str) -> None:
        """Raise unless the person's consent for the purpose is in force now.

        Raises:
            ConsentError: With the rule that denied it.
        """
        from matinee.guards import consents
        from matinee.rights import in_force

        self.live.poll()
        now = self.clock()
        allowed, rule = in_force(self.live.features_of(consents(), person, now), purpose, now)
        if not allowed:
            raise ConsentError(f"{person}: {rule}")

    def close(self) -> None:
        """Flush and close the log, and let go of every file."""
        with self._making_live:
            if self._live is not None:
                self._live.close()
                self.facts.listeners.remove(self._live.appended)
                self._live = None
        self.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Studio({self.root.name!r}, {len(self.facts.names())} facts, {len(self._decisions)} decisions)"


def open(  # `mt.open("./acme")` is how it is read
    root: str | Path,
    *,
    domains: Sequence[str] = (),
    clock: Callable[[], datetime] = utc_now,
    engine: str | None = None,
    seed: int | None = None,
) -> Studio:
    """Open a studio, or make one where the folder is new or empty.

    Args:
        root: Its folder.
        domains: For a new studio: installed domains to begin with, such as "personalization".
        clock: The time, for simulated worlds.
        engine: Where the features of a training are computed: "serial", "local" (processes) or "ray"; threads of this
            process where not given, here or in `matinee.toml`.
        seed: Of the draws of its decisions, for simulated worlds: opened again with the same seed it draws the same
            numbers again. From the operating system where not given, as it must be where members are served.

    Raises:
        StorageError: If the folder is something else, or was moved since its tables were written.
    """
    folder = Path(root).expanduser().resolve()
    marker = folder / "studio.json"
    if marker.is_file():
        layout = json.loads(marker.read_text()).get("layout")
        if layout != LAYOUT:
            raise StorageError(
                f"{folder.name} has layout {layout}, must be {LAYOUT}: it was written by another version"
            )
    elif folder.is_dir() and any(p.name != CONFIG for p in folder.iterdir()):
        raise StorageError(f"{folder.name} is a folder with other files in it, must be a studio or empty")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            listed = ", ".join(json.dumps(d) for d in domains)
            text = f"# What this studio is made of.\ndomains = [{listed}]\nmodules = []\n"
            write_whole(folder / CONFIG, text.encode())
        write_whole(marker, json.dumps({"layout": LAYOUT}).encode())
    return Studio(folder, clock=clock, engine=engine, seed=None if seed is None else must(seed, "seed", typ=int, ge=0))


def _read_config(root: Path) -> dict[str, Any]:
    path = root / CONFIG
    if not path.is_file():
        return {}
    try:
        config = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{CONFIG} is no TOML: {error}") from error
    known = ("domains", "modules", "engine", "durability", "title")
    for key in config:
        if key not in known:
            must(key, f"setting in {CONFIG}", one_of=known)
    return config
