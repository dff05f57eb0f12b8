"""`matinee demo`: a small streaming service with known truth; the whole loop for two decisions; then the console.

Everything the demo says is measured. The service is simulated, so that each policy's true value can stand beside its
estimate; the estimates see only what a real service would: facts, choices with their probabilities, outcomes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.results import text_table
from matinee.times import duration

if TYPE_CHECKING:
    import numpy as np

    from matinee.judge import Evaluation
    from matinee.policies import Candidates, Policy
    from matinee.studio import Studio
    from matinee.worlds import Contexts, StreamingService

TITLES = 300
PAGES = 3000  # home pages served before anything is evaluated
DECLINED = 2000  # declined invoices that are retried, about
BATCHES = 8  # days on which charges fall due
SPREAD = 60.0  # temperature of the learned retry policy, in cents of expected net value
TRUE_PAGES = 500  # visits over which true values of home pages are taken

MODULE = '''"""What this studio adds to the installed domains: retries over its own processors, for the whole amount."""

import matinee as mt
from matinee.domains.payments.retry import retry_decision

retry = retry_decision({routes!r}, margin=1.0)
here = mt.Domain("here", title="This studio", decisions=[retry])
'''


@dataclass
class Clock:
    """The studio's clock: the simulated time."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Truth:
    """A true value and its standard error, from the contexts being a sample."""

    value: float
    error: float


class Bar:
    """One line a step on stderr, with the seconds it took; a bar while it runs."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.begun = quiet, time.perf_counter()

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """Show a step while it runs, then what it took."""
        from matinee.cli.app import progress

        begin = time.perf_counter()
        with progress(what, total, quiet=self.quiet) as advance:
            yield advance
        if not self.quiet:
            print(
                f"{time.perf_counter() - self.begun:6.1f} s  {what} ({time.perf_counter() - begin:.1f} s)",
                file=sys.stderr,
            )


def run(folder: Path | None, *, serve: bool, port: int, members: int, seed: int, as_json: bool) -> dict[str, Any]:
    """Run the demo; see `matinee demo --help`.

    Raises:
        StorageError: If the folder holds something else.
    """
    from matinee.studio import open as open_studio
    from matinee.worlds import StreamingService

    keep = folder is not None
    root = folder if folder is not None else Path(tempfile.mkdtemp(prefix="matinee-demo-")) / "studio"
    bar = Bar(quiet=as_json)
    if (root / "studio.json").exists():
        shutil.rmtree(root)  # a demo made here before; open() refuses any other folder
    with bar.step("a service: members, titles, licences, 60 days of plays, invoices and charges"):
        world = StreamingService(seed=seed, members=members, titles=TITLES)
        frames = world.frames(duplicates=0.0, bad=0.0005)
    clock = Clock(world.now)
    root.mkdir(parents=True, exist_ok=True)
    (root / "here.py").write_text(MODULE.format(routes=list(world.routes)))
    (root / "matinee.toml").write_text(
        'domains = ["personalization", "payments"]\nmodules = ["here.py"]\ntitle = "Demo"\n'
    )
    (root / "here.py").rename(root.parent / f".{root.name}-here.py")
    with open_ready(open_studio, root, clock) as studio:
        with bar.step("facts into tables; broken rows into quarantine", len(frames)) as advance:
            for name, frame in frames.items():
                studio.append(name, frame)
                advance(1)
        home = _home(studio, world, clock, bar)
        retry = _retry(studio, world, clock, bar)
        result = {"home": home, "retry": retry, "leverage": studio.leverage().to_json()["rows"]}
        result["seconds"] = round(time.perf_counter() - bar.begun, 1)
        _show(result, studio, as_json)
    if serve:
        from matinee.serve import serve as serve_studio

        with open_studio(root, clock=clock) as studio:
            serve_studio(studio, host="127.0.0.1", port=port, open_browser=False)
    if not keep and not serve:
        shutil.rmtree(root.parent, ignore_errors=True)
    return result


def open_ready(open_studio: Callable[..., Studio], root: Path, clock: Clock) -> Studio:
    """Open the studio with its own module in place: a new studio's folder must hold nothing but its settings."""
    text = (root / "matinee.toml").read_text()
    (root / "matinee.toml").write_text(text.replace('"here.py"', ""))
    with open_studio(root, clock=clock):
        pass
    (root.parent / f".{root.name}-here.py").rename(root / "here.py")
    (root / "matinee.toml").write_text(text)
    return open_studio(root, clock=clock)


# -- the home page


def _home(studio: Studio, world: StreamingService, clock: Clock, bar: Bar) -> list[dict[str, Any]]:
    import numpy as np

    from matinee import domain as domains

    with bar.step("home: recommenders and a ranker, point in time") as advance:
        popular, taste, ranker = domains.load("personalization").recipes["home"](studio, advance)
    with bar.step("home: published, and popularity released behind its gates"):
        studio.publish()
        studio.release("home", popular, 1.0, note="popularity, explored", by="demo")
        studio.refresh()
    rng = np.random.default_rng(world.seed)
    visits = _visits(world, PAGES, rng)
    with bar.step("home: pages served and their plays recorded", len(visits)) as advance:
        _serve_pages(studio, world, clock, visits, rng, advance)
    clock.now = world.now + timedelta(days=6)
    with bar.step("home: sealed, and two policies judged from the log"):
        studio.seal()
        judged = {name: studio.evaluate("home", name) for name in (popular, taste, ranker)}
    with bar.step("home: the true value of each, which no real service knows", 3) as advance:
        truths = {}
        for name in judged:
            truths[name] = _true_pages(studio, world, name)
            advance(1)
    best = max((n for n in (taste, ranker)), key=lambda n: judged[n].value or float("-inf"))
    if judged[best].better:
        with bar.step("home: the better one released to half of the members"):
            studio.release("home", best, 0.5, note="off-policy better than popularity", by="demo")
    return [_row(studio, "home", name, judged[name], truths[name]) for name in judged]


def _visits(world: StreamingService, n: int, rng: np.random.Generator) -> list[tuple[int, datetime, str]]:
    """At least `n` visits of the day after the history, by time: the same day as often as it takes."""
    import polars as pl

    came = [world.visits(world.now, rng)]
    while sum(map(len, came)) < n:
        came.append(world.visits(world.now, rng))
    rows = pl.concat(came).head(n).sort("at")
    return [(int(m), at, str(d)) for m, at, d in rows.select("member", "at", "device").iter_rows()]


def _serve_pages(
    studio: Studio,
    world: StreamingService,
    clock: Clock,
    visits: list[tuple[int, datetime, str]],
    rng: Any,
    advance: Any,
) -> None:
    for member, at, device in visits:
        clock.now = at
        choice = studio.decide("home", member, {"device": device, "country": _country(world, member)}, at=at)
        # The world forgets each page, so that all pages of the log meet the world whose truth is taken afterwards.
        for play in world.respond_home(member, [int(a) for a in choice.action], at, rng, device=device, remember=False):
            clock.now = max(play.known, at)
            row = {
                "member": member,
                "title": play.title,
                "seconds": play.seconds,
                "share": play.share,
                "device": device,
            }
            studio.record(choice, "played", {**row, "at": play.at, "known": play.known})
        advance(1)


def _country(world: StreamingService, member: int) -> str:
    return str(_countries(world)[member])


def _countries(world: StreamingService) -> dict[int, str]:
    known: dict[int, str] | None = getattr(_countries, "of", {}).get(id(world))
    if known is None:
        rows = world.frames()["member"].select("member", "country").iter_rows()
        known = {int(m): str(c) for m, c in rows}
        _countries.of = {id(world): known}  # type: ignore[attr-defined]
    return known


def _true_pages(studio: Studio, world: StreamingService, name: str) -> Any:
    """The true value of a saved policy: it fills the pages of fixed visits, in the world's present state."""
    import polars as pl

    from matinee.decisions import choose
    from matinee.policies import Request

    decision, policy = studio.decision("home"), studio.policy(name)
    catalogue = studio.live.candidates("home")
    frame = world.contexts("home", TRUE_PAGES).frame
    features = _as_of(studio, policy, "home", frame.select("member", "at"))
    for guard_features in decision.needs:
        if guard_features.key == "member":
            more = (
                guard_features.batch(studio.facts, frame.select("member", "at")).select(guard_features.names).to_dicts()
            )
            features = [{**a, **_plain(b)} for a, b in zip(features, more, strict=True)]
    agreed = _agreed(studio, frame["member"].cast(pl.String))
    rows = iter(range(len(frame)))
    hidden = {f: None for s in policy.scorers() for one in s.needs for f in one.names}

    def fill(context: dict[str, Any], _candidates: Candidates, rng: np.random.Generator) -> list[int]:
        i = next(rows)
        known = features[i] if str(context["member"]) in agreed else {**features[i], **hidden}
        request = Request("home", context["member"], context["at"], context, known)
        made = choose(decision, policy, request, catalogue, uniforms=rng.random(decision.slots))
        return [int(a) for a in made.action]

    return world.true_value("home", fill, n=TRUE_PAGES)


def _agreed(studio: Studio, people: Any) -> set[str]:
    import polars as pl

    said = studio.as_of("consent").filter(pl.col("purpose") == "personalization").sort("at", "known", "seq")
    newest = said.group_by("person", maintain_order=True).last().filter(pl.col("granted"))
    return set(newest["person"].to_list()) & set(people.to_list())


def _as_of(studio: Studio, policy: Policy, decision: str, labels: Any) -> list[dict[str, Any]]:
    """Features that a policy reads, in batch, for each label."""
    unit = studio.decision(decision).unit
    found: list[dict[str, Any]] = [{} for _ in range(len(labels))]
    for one in {f.name: f for s in policy.scorers() for f in s.needs if f.key == unit}.values():
        rows = one.batch(studio.facts, labels).select(one.names).to_dicts()
        found = [{**a, **b} for a, b in zip(found, rows, strict=True)]
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Counts by value as the online rule gives them."""
    return {
        k: {c["value"]: c["count"] for c in v} if isinstance(v, list) and v and isinstance(v[0], dict) else v
        for k, v in row.items()
    }


# -- the retry of a declined charge


def _retry(studio: Studio, world: StreamingService, clock: Clock, bar: Bar) -> list[dict[str, Any]]:
    import numpy as np

    import matinee as mt

    rng = np.random.default_rng(world.seed + 1)
    anything = studio.save_policy("retry", mt.Uniform(), note="any wait and any processor: the cleanest log there is")
    studio.release("retry", anything, 1.0, by="demo")
    with bar.step("retry: charges fall due, some are declined, each of those is tried once more", BATCHES) as advance:
        middle, situations, codes = _serve_retries(studio, world, clock, rng, advance)
    clock.now = max(clock.now, studio.choices("retry", limit=1)["at"][0] + timedelta(days=16))
    with bar.step("retry: a model learns from the first half of the log"):
        model = mt.LightGBM(objective="regression", trees=120, leaves=7, min_rows=40)
        labels = _labels(studio, middle)
        ranker = studio.train("retry", model, on=[studio.features["charge"]], labels=labels, action=True, clock=True)
        learned = studio.save_policy(
            "retry", mt.Softmax(ranker, temperature=SPREAD, floor=0.1), note="expected net value, explored"
        )
    with bar.step("retry: judged on the second half, beside the truth"):
        judged = {n: studio.evaluate("retry", n, since=middle, lateness=timedelta(0)) for n in (anything, learned)}
        truths = {n: _true_retries(studio, situations, codes, n) for n in judged}
    if judged[learned].better:
        with bar.step("retry: the learned policy released to half of the invoices"):
            studio.release("retry", learned, 0.5, note="off-policy better than random", by="demo")
    return [_row(studio, "retry", n, judged[n], truths[n]) for n in judged]


def _serve_retries(
    studio: Studio, world: StreamingService, clock: Clock, rng: Any, advance: Any
) -> tuple[datetime, list[Contexts], dict[str, str]]:
    """Batches of charges over a month, each decline tried once more.

    Returns:
        The time that halves the choices; the situations of the second half as the world has them; the declines' codes.
    """
    import heapq

    import polars as pl

    due: list[tuple[datetime, str, str, str]] = []  # attempts that wait for their time
    amounts: dict[str, tuple[int, str]] = {}
    codes: dict[str, str] = {}
    situations: list[Contexts] = []
    halves = world.now
    for batch in range(BATCHES):
        begin = world.now + timedelta(days=7 + 2 * batch, hours=(5 * batch) % 24)
        _answer_due(studio, world, clock, due, amounts, begin, rng)
        invoices = world.extra_invoices(9 * DECLINED // BATCHES, begin, begin + timedelta(hours=1), rng)
        amounts |= {i: (a, c) for i, a, c in invoices.select("invoice", "amount_minor", "currency").iter_rows()}
        routes = rng.choice(world.routes, len(invoices)).tolist()
        charged = world.respond_charges(invoices["invoice"].to_list(), routes, invoices["at"].to_list(), rng)
        clock.now = max([clock.now, begin + timedelta(hours=1), *charged["known"].to_list()])
        studio.append("invoice", invoices)
        studio.append("attempt", charged)
        declined = charged.filter(~pl.col("approved")).sort("at")
        codes |= dict(declined.select("invoice", "code").iter_rows())
        if batch >= BATCHES // 2:
            situations.append(world.declined_now(declined["invoice"].to_list()))
        for invoice, at, known in declined.select("invoice", "at", "known").iter_rows():
            moment = max(at, known) + timedelta(seconds=1)
            choice = studio.decide("retry", invoice, {"zone": "UTC"}, at=moment)
            wait, _, route = str(choice.action[0]).partition(" ")
            if route:
                heapq.heappush(due, (moment + duration(wait), choice.id, invoice, route))
        if batch == BATCHES // 2 - 1:
            halves = begin + timedelta(hours=12)
        advance(1)
    _answer_due(studio, world, clock, due, amounts, world.end, rng)
    studio.seal()
    return halves, situations, codes


def _answer_due(
    studio: Studio, world: StreamingService, clock: Clock, due: list[Any], amounts: dict[str, tuple[int, str]], until: datetime,
    rng: Any,
) -> None:  # fmt: skip
    """Make the attempts whose time has come, and record what came of them."""
    import heapq

    while due and due[0][0] <= until:
        at, choice, invoice, route = heapq.heappop(due)
        answer = world.respond_charge(invoice, route, at, rng)
        clock.now = max(clock.now, answer.known, at)
        amount, currency = amounts[invoice]
        row = {
            "invoice": invoice, "number": answer.number, "processor": route, "amount_minor": amount, "currency": currency,
            "approved": answer.approved, "code": answer.code, "fee_minor": answer.fee_minor,
        }  # fmt: skip
        studio.record(choice, "attempt", {**row, "at": at, "known": clock.now})


def _labels(studio: Studio, until: datetime) -> Any:
    """What each logged retry brought, for learning: the first half of the log only."""
    import polars as pl

    from matinee.rewarded import rewarded_slots

    log = studio.choices("retry", until=until).filter(pl.col("fallback").is_null())
    return rewarded_slots(studio, studio.decision("retry"), log).rename({"reward": "y"})


def _true_retries(studio: Studio, situations: list[Contexts], codes: dict[str, str], name: str) -> Truth:
    """The true value of a saved policy over the very invoices it is judged on: exact over its actions."""
    import numpy as np

    from matinee import guards
    from matinee.draw import fill_slots
    from matinee.policies import Request
    from matinee.worlds.truth import charge_worth

    decision, policy = studio.decision("retry"), studio.policy(name)
    assert decision.options is not None
    options = decision.options.candidates()
    each: list[float] = []
    for contexts in situations:
        place = {str(a): i for i, a in enumerate(contexts.ids.tolist())}
        order = np.array([place[str(a)] for a in options.ids.tolist()])
        worth = charge_worth(contexts, "net")[:, order]
        for i, row in enumerate(contexts.frame.iter_rows(named=True)):
            seen = ("amount_minor", "currency", "country", "card", "debit", "three_d", "previous")
            known = {k: row.get(k) for k in seen} | {"code": codes[row["invoice"]], "gap_seconds": 60.0}
            known |= {"attempts": 1, "attempts_30d": 1, "approved": 0, "stops": 0}
            request = Request("retry", row["invoice"], row["at"] + timedelta(minutes=1), {"zone": "UTC"}, known)
            guarded = guards.apply(decision.guards, request, options)
            allowed = options.take(np.flatnonzero(guarded.allowed))
            _, _, chance = fill_slots(
                policy.components(request, allowed),
                np.ones(len(allowed), np.bool_),
                1,
                uniforms=np.zeros(1),
                full=True,
            )
            each.append(float(chance[0] @ worth[i][guarded.allowed]))
    values = np.array(each)
    return Truth(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5))


# -- what is shown


def _row(studio: Studio, decision: str, name: str, judged: Evaluation, truth: Any) -> dict[str, Any]:
    low, high = judged.interval or (None, None)
    return {
        "decision": decision,
        "policy": name,
        "what": studio.policies(decision)[name]["note"],
        "estimate": judged.value,
        "low": low,
        "high": high,
        "truth": truth.value,
        "truth_error": truth.error,
        "refused": judged.refused,
        "unit": studio.decision(decision).reward_unit,
    }


def _show(result: dict[str, Any], studio: Studio, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1, default=str))
        return
    for decision in ("home", "retry"):
        found = studio.decision(decision)
        print(f"\n{found.title}: {found.reward_unit} a choice, estimated from the log beside the truth")
        rows = [
            {
                "policy": r["policy"], "what it does": r["what"], "estimate": r["estimate"],
                "interval": None if r["low"] is None else (r["low"], r["high"]), "truth": r["truth"],
                "truth ±": 1.96 * r["truth_error"],
            }
            for r in result[decision]
        ]  # fmt: skip
        print(text_table(rows))
        for r in result[decision]:
            if r["refused"]:
                print(f"{r['policy']}: no value: {r['refused']}")
        print(studio.releases.live(decision))
    print()
    print(text_table(result["leverage"]))
    print(f"\n{studio.quarantine.count()} broken rows wait in quarantine; done in {result['seconds']} s")
