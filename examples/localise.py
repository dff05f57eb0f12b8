"""A domain of your own in one file: human dub, synthetic dub, subtitle, or wait?

A person decides; Matinee gives the options, what each is expected to be worth, and what is not allowed: a synthetic dub
is out until the performer's consent is in force. Run it: `python examples/localise.py FOLDER`.
"""

import sys
from datetime import UTC, datetime

import matinee as mt


class Watched(mt.Fact, key="title_language"):
    title_language: str
    seconds: float


VALUE = 0.002  # euro that an hour watched is worth, a second
options = [mt.Option(name, {"cost": cost}) for name, cost in
           [("human dub", 40_000.0), ("synthetic dub", 6_000.0), ("subtitle", 1_500.0), ("wait", 0.0)]]

localise = mt.Decision(
    "localise", title="Localise a title", unit="title_language", among=options, mode="advise",
    reward=mt.sum(Watched.seconds, within="28d") * VALUE - mt.cost("cost"), reward_unit="euro",
    guards=[mt.requires("synthetic dub", consent="voice", of="performer")],
)
domain = mt.Domain("localisation", title="Localisation", facts=[Watched], decisions=[localise])

if __name__ == "__main__":
    with mt.open(sys.argv[1]) as studio:
        studio.use(domain, module=__file__)
        print("before consent:", {a.option: a.blocked_by for a in studio.decide("localise", "dark-de", performer="ann").advice})
        studio.append(mt.Consent, mt.Consent(person="ann", purpose="voice", granted=True, at=datetime.now(UTC)))
        advice = studio.decide("localise", "dark-de", performer="ann")
        print("with consent:  ", {a.option: a.blocked_by for a in advice.advice})
        print("chosen:", studio.choose(advice, "synthetic dub", by="ines").action)
