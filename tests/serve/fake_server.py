"""Serves a stand-in studio in a process of its own: prints the address, and what became of it at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matinee.choices import Choice
from matinee.serve import ServeSettings, serve


def say(line: str) -> None:
    """To whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class SlowStudio:
    """Takes as long as the context says; "generation" says whether it does so on the event loop."""

    root: Path
    generation: int
    config: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)

    def decide(self, name: str, unit: Any = None, context: Mapping[str, Any] | None = None) -> Choice:
        time.sleep(float((context or {}).get("seconds", 0)))
        return Choice(
            id="c", decision=name, unit=unit, at=datetime.now(UTC), policy="p", action=[1], propensities=[1.0]
        )

    def health(self) -> dict[str, Any]:
        return {"generation": self.generation, "counts": {}}

    def refresh(self) -> bool:
        return False

    def close(self) -> None:
        say("closed")


if __name__ == "__main__":
    folder, generation, drain, host, port, timeout = sys.argv[1:]
    sys.modules["matinee.console.app"] = None  # type: ignore[assignment]  # a stand-in has nothing to show
    serve(
        SlowStudio(Path(folder), int(generation)),  # type: ignore[arg-type]  # a stand-in
        host=host,
        port=int(port),
        settings=ServeSettings(max_in_flight=4, timeout=float(timeout), drain=float(drain), grace=5.0),
        started=say,
    )
    say("returned")
