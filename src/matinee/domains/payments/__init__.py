"""Payments: when, and through which processor, to charge.

`facts` what is known; `processor_log` a processor's file as facts and choices; `charging` the state of an invoice and
its guards; `routing` and `retry` the decisions; `routing_model` the chance of approval and `drift` what moves it;
`routing_value` what a way to route would have earned.
"""

from __future__ import annotations

from typing import Any

import matinee as mt
from matinee.domains.payments.charging import charge, traffic
from matinee.domains.payments.facts import FACTS
from matinee.domains.payments.retry import retry
from matinee.domains.payments.retry import train as train_retries
from matinee.domains.payments.routing import backtest, route, train


def _import_processor_log(*args: Any, **options: Any) -> Any:
    from matinee.domains.payments.importer import import_processor_log

    return import_processor_log(*args, **options)


domain = mt.Domain(
    name="payments",
    title="Payments",
    facts=FACTS,
    features=[charge, traffic],
    decisions=[route, retry],
    importers={"psp-routing": _import_processor_log},
    recipes={"route": train, "retry": train_retries},
    backtests={"route": backtest},
)
