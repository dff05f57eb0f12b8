"""Sample pages for tests of the console: an invented studio, Acme, as page models. Nothing here touches a disk."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from matinee.console.figures import chance_figure, lines_figure, value_figure
from matinee.console.graph_layout import draw
from matinee.console.pages import (
    Act,
    Arm,
    Card,
    ChoicePage,
    ChoiceRow,
    DecisionPage,
    DecisionRow,
    Empty,
    Estimate,
    EvidenceRow,
    FeatureRow,
    Front,
    Funnel,
    GuardRow,
    HealthRow,
    Hit,
    Impact,
    KeptOut,
    Lamp,
    LedgerPage,
    Leverage,
    LineagePage,
    MemberPage,
    MembersPage,
    NavItem,
    Need,
    OutcomeRow,
    Point,
    Preview,
    QuarantineBatch,
    QuarantineGroup,
    QuarantinePage,
    ReleaseRow,
    SearchPage,
    SheetItem,
    Shell,
    Step,
)
from matinee.console.release_panel import ReleaseFacts, panel
from matinee.console.source import DecisionQuery, LedgerQuery, MemberQuery, QuarantineQuery, ReleaseForm
from matinee.exceptions import StorageError, UnknownNameError

NOW = datetime(2026, 11, 22, 14, 10, tzinfo=UTC)
CHOICE = "019353f0a1b2c3d4e5f60718293a4b5c"


def lamps(**at: Lamp) -> tuple[Lamp, ...]:
    """24 lit lamps, except those named `h03="dim"`."""
    return tuple(at.get(f"h{i:02d}", "lit") for i in range(24))


def rising(start: float, end: float, wide: float, n: int = 28, wobble: float = 0.4) -> tuple[Point, ...]:
    """A value that rises over the days, its interval narrowing."""
    out = []
    for i in range(n):
        value = start + (end - start) * i / (n - 1) + wobble * math.sin(1.7 * i) * (1 - i / n)
        half = wide * (1.6 - i / n)
        out.append(
            Point(
                NOW - timedelta(days=n - 1 - i),
                round(value, 3),
                round(value - half, 3),
                round(value + half, 3),
                12_000 + 310 * i,
            )
        )
    return tuple(out)


def better(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, unit="%", signed=True)


DECISIONS = (
    DecisionRow(
        "home",
        "Home page ranking",
        "decide",
        "release 41",
        0.95,
        better(3.1, 2.2, 4.0),
        "watch hours a member a week",
        "Experiment, 388,110 members",
        0.612,
        2_410_332,
        rising(1.0, 3.1, 0.9),
    ),
    DecisionRow(
        "retry",
        "Payment retry",
        "decide",
        "release 12",
        0.90,
        better(9.8, 8.6, 11.0),
        "71.4 of 100 invoices, was 65.0",
        "Experiment, 48,730 invoices",
        0.385,
        48_730,
        rising(5.0, 9.8, 1.2),
    ),
    DecisionRow(
        "route",
        "Processor routing",
        "decide",
        "release 9",
        0.97,
        better(1.1, 0.7, 1.4),
        "86.3 of 100 approved, was 85.4",
        "Experiment, 1.20 million charges",
        0.041,
        1_204_331,
        rising(0.2, 1.1, 0.35),
    ),
    DecisionRow(
        "artwork",
        "Artwork",
        "decide",
        "release 3",
        0.50,
        better(0.8, -0.1, 1.7),
        "starts a page; not told apart",
        "Experiment, 91,400 members",
        0.003,
        91_400,
        rising(0.4, 0.8, 0.9),
    ),
    DecisionRow(
        "mail",
        "Launch mail",
        "decide",
        "release 1",
        0.20,
        Estimate(None, refused="212 effective of 1,000 needed", signed=True, unit="%"),
        "opens",
        "Explore more, or wait 9 days",
        0.019,
        3_120,
    ),
)

FRONT = Front(
    kicker="Acme, this afternoon",
    headline="All five decisions are answering. Three things need a person.",
    lead="In the last 28 days the studio made **3.76 million choices**. Four of five can be judged, and three "
    "are "
    "worth more than what they replaced. No guard was broken, and one decision cannot be judged yet.",
    decisions=DECISIONS,
    needs=(
        Need(
            "14:02",
            "Release or hold **sequence-4** on `home`",
            "Ahead of the live policy by 1.2 % [0.4, 2.0] for three days running. Share is 20 %.",
            "since 20 Nov",
            "/decisions/home#release",
            "Review the release",
        ),
        Need(
            "13:41",
            "214 rows of `played` wait in quarantine",
            "`seconds` below zero in 212 of them, from one file. Nothing reads them until somebody decides.",
            "facts",
            "/quarantine",
            "Look at the rows",
        ),
        Need(
            "20 Nov",
            "`mail` cannot be judged",
            "212 effective choices of the 1,000 needed. Explore more, or wait about 9 days.",
            "evidence",
            "/decisions/mail",
            "See its evidence",
        ),
    ),
    health=(
        HealthRow("home", "choices logged, 0 fell back", lamps(), "24 hours well", "84,210"),
        HealthRow(
            "retry",
            "15 fell back, of 1,720",
            lamps(h03="dim"),
            "23 hours well, 15 choices fell back in the hour to 18:00",
            "1,720",
        ),
        HealthRow(
            "route",
            "Northgate was out",
            lamps(h19="out", h20="out"),
            "22 hours well, out in the hours to 10:00 and 11:00",
            "43,011",
        ),
        HealthRow(
            "artwork",
            "no request at night",
            lamps(h08="none", h09="none", h10="none"),
            "21 hours well, 3 hours without a request",
            "3,264",
        ),
        HealthRow("Sealing", "log to tables; limit 60 min", (), "", "4 min ago"),
    ),
    leverage=Leverage(
        "64 facts and 212 features, shared; 5 decisions live",
        (
            "point-in-time features",
            "guards",
            "exact propensities",
            "off-policy value",
            "experiments",
            "serving",
            "lineage",
            "consent",
            "erasure",
            "a page here",
        ),
        tuple(
            (n, tuple(not (n == "mail" and t in (3, 4)) for t in range(10)))
            for n in ("home", "retry", "route", "artwork", "mail")
        ),
        lines_figure("lines", (("home", 412), ("retry", 204), ("route", 122), ("artwork", 60), ("mail", 36))),
    ),
    worth=value_figure(
        "worth",
        rising(1.1, 3.4, 0.7),
        title="Home page ranking is worth 3.1 % more than what it replaced",
        subtitle="Watch hours a member a week, per cent against the baseline, 95 % interval",
        unit="%",
        signed=True,
        marks=((NOW - timedelta(days=19), "40"), (NOW - timedelta(days=8), "41")),
        height=150,
    ),
    done_today=7,
)

RELEASES = (
    ReleaseFacts(
        41,
        "release",
        NOW - timedelta(days=8, hours=4),
        "Ranking team",
        "",
        (("sequence-4", 0.2, "challenger"), ("boost-31", 0.75, "live"), ("popular-7d", 0.05, "baseline")),
    ),
    ReleaseFacts(
        40,
        "release",
        NOW - timedelta(days=19),
        "Ranking team",
        "",
        (("boost-31", 0.95, "live"), ("popular-7d", 0.05, "baseline")),
    ),
    ReleaseFacts(
        39,
        "rollback",
        NOW - timedelta(days=32),
        "the stop rule",
        "cancellations rose by 0.09 pts [0.03, 0.15]",
        (("boost-30", 1.0, "live"),),
    ),
)


def decision_page(query: DecisionQuery, allowed: bool, releases: tuple[ReleaseFacts, ...] = RELEASES) -> DecisionPage:
    """The page of `home`, with its panel as the address asks for it."""
    live = releases[0]
    return DecisionPage(
        name="home",
        title="Home page ranking",
        unit="member",
        mode="decide",
        mode_words="Matinee decides",
        lead="Worth **+3.1 % watch hours** a member a week [+2.2, +4.0] against most-played. A challenger, "
        "**sequence-4**, has passed its test and waits for a person.",
        sheet=(
            SheetItem("Chooses, for each", "20 titles, a member"),
            SheetItem("Among", "18,204 titles"),
            SheetItem("Reward", "watch hours within 48 h, plays over 20 min"),
            SheetItem("Guards", "5, before the draw and between slots"),
            SheetItem("Live", f"release {live.number}, since 14 Nov"),
            SheetItem("Falls back to", "popular-7d"),
            SheetItem("Pinned to", "`choices@48f2c1`"),
        ),
        value=value_figure(
            "value",
            rising(0.9, 1.2, 0.9, wobble=0.9),
            title="sequence-4 is ahead of boost-31 by 1.2 %, and its interval has been clear of zero since Thursday",
            subtitle="Watch hours a member a week, per cent against the live policy, 95 % interval",
            unit="%",
            signed=True,
            marks=((NOW - timedelta(days=19), "release 40"), (NOW - timedelta(days=8), "share 5 to 20 %")),
            gaps=(
                (NOW - timedelta(days=14), NOW - timedelta(days=13, hours=12), "41 minutes without a log, left out"),
            ),
            stop_at=(-1.0, "stops here by itself"),
            of="Members",
        ),
        value_missing="",
        release=panel(
            query,
            releases,
            ("sequence-4", "boost-31", "popular-7d"),
            unit="member",
            units=388_110,
            gates=(SheetItem("Evidence attached", "in order"), SheetItem("Guards unchanged", "in order")),
            ask_reason="no evidence was made for it" if query.form.policy == "popular-7d" else "",
            expected="**+1.2 %** watch hours [+0.4, +2.0]",
            back_to=40,
            now=NOW,
            allowed=allowed,
        ),
        arms=(
            Arm(
                "boost-31",
                "boosted trees, 212 features",
                "live",
                0.75,
                291_077,
                1_807_749,
                Estimate(5.78, 5.76, 5.81, reference=5.61),
                better(3.1, 2.2, 4.0),
                0.0,
            ),
            Arm(
                "sequence-4",
                "linear sequence and boosted trees",
                "challenger",
                0.2,
                77_631,
                482_066,
                Estimate(5.85, 5.80, 5.90, reference=5.61),
                better(4.3, 3.2, 5.4),
                0.00003,
            ),
            Arm(
                "popular-7d",
                "most played, 7-day decay",
                "baseline",
                0.05,
                19_402,
                120_517,
                Estimate(5.61, 5.52, 5.70, reference=5.61, baseline=True),
                None,
                0.0,
            ),
        ),
        arms_note="Members fell into the arms as planned (ratio test p = 0.41). "
        "Any error falls back to **popular-7d**: "
        "15 "
        "choices of 2,410,332. Each member stays in one arm.",
        reward_unit="watch hours",
        period="26 October to 22 November",
        guards=(
            GuardRow("licence window", "no right to show it at that moment", 0.412, 7_499),
            GuardRow("maturity", "above the profile's limit", 0.126, 2_294),
            GuardRow("cap 1 watched", "watched 1 times within 180d already", 0.061, 1_110),
            GuardRow("at most 3 a provider", "3 from the same provider are already chosen", 0.011, 0, "between slots"),
            GuardRow("consent: likeness", "no consent for likeness is in force", 0.002, 31),
        ),
        left=GuardRow("Left to choose from", "", 0.388, 7_063),
        guards_note="Guards mask before the draw, so the logged chance of what was shown is exact.",
        evidence=(
            EvidenceRow(
                NOW,
                "**sequence-4** against **boost-31**",
                "Experiment, any-day interval, 368,708 members",
                better(1.2, 0.4, 2.0),
                "Tells them apart",
            ),
            EvidenceRow(
                NOW - timedelta(days=2),
                "The same, children's profiles only",
                "Off-policy, doubly robust, 212 effective of 1,000",
                Estimate(None, unit="%", signed=True, refused="overlap"),
                "Too few choices overlap. Explore more on these profiles, or wait about 9 days.",
            ),
            EvidenceRow(
                NOW - timedelta(days=10),
                "**sequence-4**, before any member saw it",
                "Off-policy, doubly robust, 8,940 effective",
                better(1.6, -0.2, 3.4),
                "Worth an experiment",
            ),
            EvidenceRow(
                NOW - timedelta(days=10),
                "The same, weights only",
                "Off-policy, self-normalized, 8,940 effective",
                better(2.0, -1.6, 5.6),
                "Agrees, wider",
            ),
            EvidenceRow(
                NOW - timedelta(days=19),
                "**boost-31** against **popular-7d**",
                "Experiment, any-day interval, 388,110 members",
                better(3.1, 2.2, 4.0),
                "Tells them apart",
            ),
        ),
        evidence_unit="per cent",
        chance=chance_figure("chance", [0.003 * 1.06 ** (i % 100) for i in range(700)], of="the title in slot 1"),
        releases=tuple(
            ReleaseRow(
                r.number,
                r.words if not r.note else f"Rolled back: {r.note}",
                r.at,
                r.by,
                live=i == 0,
                rolled_back=bool(r.note),
            )
            for i, r in enumerate(releases)
        ),
        code="report = studio.evaluate(home, challenger)   # off-policy first\nprint(report)\n"
        'studio.release(home, challenger, share=0.50)  # with its gates\nstudio.rollback("home", to=40)  # undo',
    )


TITLES = (
    "Half a Lighthouse",
    "Glass Harbour",
    "The Weight of Bells",
    "Ninety Days of Rain",
    "Hotel Miramar",
    "Zero Gravity Choir",
    "The Ferryman’s Ledger",
    "Fair Copy",
    "Vesper County",
    "Signal Box",
    "Small Hours",
    "Sixteen Winters",
    "Night Bus to Lisbon",
    "The Second Violin",
    "Kitchen of Saints",
    "Dust and Clementines",
    "Halogen",
    "The Cartographer’s Wife",
)
OUT = (
    "Low Tide, High Water",
    "Minor Planets",
    "Paper Tigers of Porto",
    "The Long Interval",
    "Do Not Feed the Ghosts",
    "Copper Summer",
    "Salt Year",
    "The Understory",
)
REASONS = (
    "You finished Low Tide, High Water in four days",
    "Slow crime by the sea, like four you finished",
    "Portuguese original; you keep the sound on",
    "Unlike your last ten",
)


def choice_row(i: int) -> ChoiceRow:
    return ChoiceRow(
        f"{CHOICE[:-2]}{i:02x}",
        NOW - timedelta(minutes=17 * i),
        "home",
        "40217",
        TITLES[i : i + 4],
        0.182 / (i + 1),
        "boost-31",
        "live",
        "every candidate is kept out: licence window" if i == 4 else None,
        ("played 31 min", "rated 4") if i % 2 == 0 else (),
    )


def member_page(query: MemberQuery) -> MemberPage:
    bad = query.at == "yesterday"
    return MemberPage(
        unit=query.unit,
        unit_name="member",
        decision="home",
        decisions=("home", "artwork"),
        headline=f"Home page ranking for member {query.unit}",
        lead="What this member would see now. A preview is never logged and changes nothing.",
        context=(("device", query.context.get("device", "tv")), ("country", "PT")),
        at=query.at,
        preview=Preview(
            decision="home",
            title="What would be shown now",
            policy="boost-31",
            arm="live",
            slots=tuple(
                Card(
                    str(100 + i),
                    t,
                    i + 1,
                    0.18 * 0.93**i if i % 6 != 5 else 0.009,
                    (REASONS[i % 4],),
                    to_learn=i % 6 == 5,
                )
                for i, t in enumerate(TITLES)
            ),
            kept_out=tuple(
                KeptOut(str(900 + i), t, "licence window", "no right to show it at that moment")
                for i, t in enumerate(OUT)
            ),
            kept_out_total=10_934,
            funnel=Funnel(
                (
                    ("titles", 18_204),
                    ("after licence window", 10_705),
                    ("after maturity", 8_411),
                    ("after cap", 7_270),
                    ("drawn", 18),
                )
            ),
            as_posters=True,
            allowed=7_270,
            slot=query.slot,
            drivers=(
                ("plays in 90 days", 0.31),
                ("hours since last play", 0.18),
                ("device: tv", 0.09),
                ("running time", -0.06),
            ),
        ),
        features=(
            FeatureRow("taste", "hours_7d", "6.4"),
            FeatureRow("taste", "plays_90d", "31"),
            FeatureRow("taste", "last", "Glass Harbour"),
            FeatureRow("account", "plan", "standard"),
            FeatureRow("account", "days_since_start", "412"),
        ),
        choices=tuple(choice_row(i) for i in range(6)),
        error="at == 'yesterday', must be a time such as '2026-11-22T18:00:00Z'" if bad else None,
    )


NODES = (
    ("fact://played", "fact", "played"),
    ("fact://title", "fact", "title"),
    ("fact://charged", "fact", "charged"),
    ("fact://licence", "fact", "licence"),
    ("features://taste@1f3a9c02bb", "features", "taste@1f3a9c02bb"),
    ("features://title_attributes@77aa01ff93", "features", "title_attributes@77aa01ff93"),
    ("features://invoice@0b2c3d4e5f", "features", "invoice@0b2c3d4e5f"),
    ("model://home-ranker@3", "model", "home-ranker@3"),
    ("model://home-ranker@2", "model", "home-ranker@2"),
    ("model://retry-ranker@1", "model", "retry-ranker@1"),
    ("policy://home@12", "policy", "home@12"),
    ("policy://home@13", "policy", "home@13"),
    ("policy://retry@4", "policy", "retry@4"),
    ("decision://home", "decision", "home"),
    ("decision://retry", "decision", "retry"),
    ("experiment://home@14", "experiment", "home@14"),
)
EDGES = (
    ("fact://played", "features://taste@1f3a9c02bb", "read by"),
    ("fact://title", "features://title_attributes@77aa01ff93", "read by"),
    ("fact://charged", "features://invoice@0b2c3d4e5f", "read by"),
    ("fact://licence", "decision://home", "guards"),
    ("features://taste@1f3a9c02bb", "model://home-ranker@3", "trained on"),
    ("features://taste@1f3a9c02bb", "model://home-ranker@2", "trained on"),
    ("features://title_attributes@77aa01ff93", "model://home-ranker@3", "trained on"),
    ("features://invoice@0b2c3d4e5f", "model://retry-ranker@1", "trained on"),
    ("model://home-ranker@3", "policy://home@13", "scored by"),
    ("model://home-ranker@2", "policy://home@12", "scored by"),
    ("model://retry-ranker@1", "policy://retry@4", "scored by"),
    ("policy://home@13", "decision://home", "decides for"),
    ("policy://home@12", "decision://home", "decides for"),
    ("policy://retry@4", "decision://retry", "decides for"),
    ("policy://home@13", "experiment://home@14", "arm of"),
    ("policy://home@12", "experiment://home@14", "arm of"),
    ("fact://played", "decision://home", "rewards"),
)


def lineage_page(node: str) -> LineagePage:
    if node and node not in {n[0] for n in NODES}:
        raise UnknownNameError("uri", node, [n[0] for n in NODES])
    kind, _, name = node.partition("://")
    impact = None
    if node:
        down = [(t, t.partition("://")[0], f"{k} {s}") for s, t, k in EDGES if s == node]
        up = [(s, s.partition("://")[0], k) for s, t, k in EDGES if t == node]
        impact = Impact(
            node,
            kind,
            name,
            f"If `{node}` changes, **{len(down)} things** must be made again.",
            tuple(down),
            tuple(up),
            (SheetItem("Made", "3 Nov 09:12"),),
        )
    return LineagePage(
        "Two decisions stand on four facts",
        "Follow an edge to see what is made from what. Choose a node to see what breaks if it changes.",
        draw(NODES, EDGES, focus=node or None),
        impact,
    )


BATCH = QuarantineBatch(
    "played",
    "ab12cd34ef56",
    1,
    "plays-2026-11-22.parquet",
    212,
    "212 rows of played",
    ("member", "title", "seconds", "at"),
    tuple(
        (
            (str(4000 + i), str(17 * i), f"−{i + 1}.0", "2026-11-22 09:1" + str(i)),
            f"seconds == −{i + 1}.0, must be >= 0",
        )
        for i in range(6)
    ),
    more=206,
)


class SamplePages:
    """A source of sample pages; acts change what the next page shows."""

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        self.releases = RELEASES
        self.acts: list[tuple[str, ...]] = []
        self.batches: tuple[QuarantineBatch, ...] = (BATCH,)
        self.out = False

    def shell(self) -> Shell:
        nav = (
            NavItem("/", "Front", "f"),
            NavItem("/decisions/home", "Home page ranking", "1"),
            NavItem("/decisions/retry", "Payment retry", "2", last_of_group=True),
            NavItem("/members", "Members", "m"),
            NavItem("/lineage", "Lineage", "l"),
            NavItem("/quarantine", "Quarantine", "q"),
            NavItem("/choices", "Ledger", "c"),
        )
        return Shell(
            "Acme",
            NOW,
            nav,
            NOW - timedelta(seconds=38),
            lamps(h03="dim", h19="out", h20="out"),
            "one decision was out for 2 h",
            "Sample data. Every title, name and figure on this page is invented.",
        )

    def front(self) -> Front:
        if self.out:
            raise StorageError("catalog did not answer within 30.0 s, must answer; is the disk full?")
        if self.empty:
            steps = (
                Step(
                    "Declare what happens.",
                    "A fact with typed columns and a key.",
                    'class Played(mt.Fact, key="member"):\n    member: int; title: int; seconds: float',
                ),
                Step(
                    "Append what happened.",
                    "Rows that do not fit go to quarantine, with the reason, and never get lost.",
                    'studio.append(Played, "plays.parquet")',
                ),
                Step("Decide.", "Declare a decision, release a policy, and ask.", 'studio.decide("home", member=42)'),
            )
            empty = Empty(
                "No decisions yet",
                "This page says how every decision is doing. **Declare the first one**, and it fills itself.",
                steps,
            )
            return Front("Acme, this afternoon", "", "", (), (), (), empty=empty)
        return FRONT

    def decision(self, name: str, query: DecisionQuery, *, allowed: bool) -> DecisionPage:
        if name not in ("home", "retry"):
            raise UnknownNameError("decision", name, ["home", "retry"])
        page = decision_page(query, allowed, self.releases)
        if name == "retry":
            bare = replace(page.release, policies=(), ask=None, done=None)
            return replace(
                page,
                name="retry",
                title="Payment retry",
                value=None,
                value_missing="Nothing has been chosen yet, so there is no value to draw.",
                arms=(),
                guards=(),
                left=None,
                evidence=(),
                chance=None,
                releases=(),
                release=bare,
            )
        return page

    def lineage(self, node: str) -> LineagePage:
        return lineage_page(node)

    def quarantine(self, query: QuarantineQuery, *, allowed: bool) -> QuarantinePage:
        done = None
        if query.done.startswith("drop:"):
            done = "212 rows were let go."
        elif query.done.startswith("retry:"):
            done = "**12 rows** are in their table now; 200 still wait."
        ask = None
        if allowed and query.ask in ("retry", "drop") and query.batch == BATCH.batch:
            harm = query.ask == "drop"
            text = (
                "**Let 212 rows of `played` go?** They are deleted, and cannot come back."
                if harm
                else "**Try 212 rows of `played` again?** Those that fit go to their table, the rest stay here."
            )
            ask = Act(
                query.ask,
                text,
                "Let them go" if harm else "Try them again",
                "Keep them here",
                {"batch": BATCH.batch},
                harm=harm,
            )
        groups = (
            (
                QuarantineGroup(
                    "played",
                    "seconds, must be >= 0",
                    212,
                    BATCH.batch,
                    BATCH.source,
                    "Ask who wrote the file; mend it, and append it again.",
                ),
            )
            if self.batches
            else ()
        )
        return QuarantinePage(
            "212 rows wait" if groups else "Quarantine is empty",
            "Rows that do not fit are kept here with the reason. **Nothing reads them until somebody decides.**",
            groups,
            self.batches,
            ask,
            done,
            allowed=allowed,
        )

    def members(self, decision: str, missing: str | None = None) -> MembersPage:
        units = tuple((str(40217 + i), "home", 31 - i, NOW - timedelta(minutes=3 * i)) for i in range(8))
        return MembersPage(
            "Whom was it decided for?",
            "Look up a member by id: what would be decided for them now, and why.",
            units,
            "member",
            ("home", "artwork"),
            decision or "home",
            "",
            missing,
        )

    def member(self, query: MemberQuery) -> MemberPage:
        return member_page(query)

    def ledger(self, query: LedgerQuery) -> LedgerPage:
        missing = None
        if query.id and query.id != CHOICE:
            missing = f"choice == {query.id!r}, must be the id of a logged choice"
        return LedgerPage(
            "2.41 million choices, none lost",
            "Each call of `decide` is one line, with its exact probability.",
            ("home", "retry"),
            query.decision,
            tuple(choice_row(i) for i in range(12)),
            (SheetItem("Sealed", "4 min ago"), SheetItem("Waiting in the log", "1,204")),
            (("before", "x"),),
            missing,
            query.unit,
            query.id,
        )

    def choice(self, id: str) -> ChoicePage:
        if id != CHOICE:
            raise UnknownNameError("choice", id, [])
        return ChoicePage(
            id=CHOICE,
            decision="home",
            headline="Six titles for member 40217",
            lead="Drawn by **boost-31** on 22 Nov 13:53, with a chance of **0.02 %** for all slots together.",
            sheet=(
                SheetItem("Policy", "boost-31"),
                SheetItem("Arm", "live"),
                SheetItem("Candidates", "7,270"),
                SheetItem("Kept out", "10,934"),
                SheetItem("Items as of", "22 Nov 13:50"),
            ),
            slots=tuple(Card(str(100 + i), t, i + 1, 0.18 * 0.8**i) for i, t in enumerate(TITLES[:6])),
            as_posters=True,
            blocked=(("licence window", ("Minor Planets", "Salt Year"), 10_301), ("maturity", ("Copper Summer",), 633)),
            context=(SheetItem("device", "tv"), SheetItem("country", "PT")),
            outcomes=(OutcomeRow("o1", "played", NOW, NOW + timedelta(minutes=3), "title 100, seconds 1,860"),),
            advice=(),
            raw='{\n  "id": "' + CHOICE + '",\n  "decision": "home"\n}',
            unit="40217",
        )

    def search(self, q: str) -> SearchPage:
        hits = (
            Hit("decision", "Home page ranking", "home, release 41 is live", "/decisions/home"),
            Hit("fact", "played", "2.1 million rows", "/lineage?node=fact%3A%2F%2Fplayed", code=True),
            Hit("model", "home-ranker@3", "boosted trees", "/lineage?node=model%3A%2F%2Fhome-ranker%403", code=True),
            Hit("member", q, "what would be decided now", f"/members/{q}"),
        )
        return SearchPage(q, () if q in ("", "zzz") else hits)

    def release(self, name: str, form: ReleaseForm, by: str) -> int:
        self.acts.append(("release", name, form.policy, form.share, by))
        new = ReleaseFacts(
            self.releases[0].number + 1,
            "release",
            NOW,
            by,
            "",
            ((form.policy, float(form.share), "challenger"), ("boost-31", 1 - float(form.share), "live")),
        )
        self.releases = (new, *self.releases)
        return new.number

    def rollback(self, name: str, to: int, by: str) -> int:
        self.acts.append(("rollback", name, str(to), by))
        target = next(r for r in self.releases if r.number == to)
        new = replace(
            target, number=self.releases[0].number + 1, kind="rollback", at=NOW, by=by, note=f"back to release {to}"
        )
        self.releases = (new, *self.releases)
        return new.number

    def retry(self, batch: str, by: str) -> tuple[int, int]:
        self.acts.append(("retry", batch, by))
        return 12, 200

    def drop(self, batch: str, by: str) -> int:
        self.acts.append(("drop", batch, by))
        self.batches = ()
        return 212
