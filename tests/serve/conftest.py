"""A stand-in for the studio that the HTTP layer is tried against, and clients that talk to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from matinee.choices import Choice, Outcome
from matinee.exceptions import MatineeError, StorageError, UnknownNameError
from matinee.serve import ServeSettings, create_app

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class Declared:
    key_kind: str


@dataclass
class FakeStudio:
    """Decides "home" for anybody, knows one feature set, and fails on request."""

    root: Path
    config: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    policy: str = "home@1"
    closed: bool = False
    broken_refresh: bool = False
    recorded: list[Outcome] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    refreshed: int = 0
    hold: threading.Event | None = None

    features: Mapping[str, Declared] = field(
        default_factory=lambda: {"taste": Declared("int"), "card": Declared("str")}
    )

    def decide(self, name: str, unit: Any = None, context: Mapping[str, Any] | None = None, **_: Any) -> Choice:
        self.threads.add(threading.current_thread().name)
        if self.hold is not None:
            self.hold.wait(5)
        if name != "home":
            raise UnknownNameError("decision", name, ["home", "route"])
        if unit == "burst":
            raise RuntimeError("secret detail of the machine: /srv/studio")
        if unit == "disk":
            raise StorageError("/srv/studio/log/live/000001.open cannot be written (the disk is full)")
        return Choice(
            id=f"c-{unit}", decision=name, unit=unit, at=NOW, policy=self.policy, arm="live",
            context=dict(context or {}), candidates=[1, 2, 3], action=[2, 1], propensities=[0.5, 0.25],
            blocked={"licence window": [3, 4]},
        )  # fmt: skip

    def record(self, choice: str, fact: str, row: Mapping[str, Any] | None = None, *, id: str | None = None,
               at: datetime | None = None) -> Outcome:  # fmt: skip
        self.threads.add(threading.current_thread().name)
        if fact != "played":
            raise UnknownNameError("fact", fact, ["played"])
        if "seconds" not in (row or {}):
            raise MatineeError("Played.seconds is missing, must be given (float)")
        made = Outcome(id=id or f"o-{choice}", choice=choice, fact=fact, row=dict(row or {}), at=at or NOW, known=NOW)
        self.recorded.append(made)
        return made

    def features_of(self, name: str, key: Any) -> dict[str, Any]:
        if name not in self.features:
            raise UnknownNameError("features", name, self.features)
        return {"plays": 3, "last": None, "key_was": type(key).__name__, "at": NOW}

    def health(self) -> dict[str, Any]:
        return {"decisions": ["home"], "generation": self.generation, "counts": {"decisions:home": 7, "outcomes": 2}}

    def refresh(self) -> bool:
        self.refreshed += 1
        if self.broken_refresh:
            raise StorageError("online/CURRENT cannot be read")
        return False

    def close(self) -> None:
        self.closed = True


Connect = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def studio(tmp_path: Path) -> FakeStudio:
    return FakeStudio(tmp_path)


@pytest.fixture
def connect(studio: FakeStudio) -> Connect:
    """Opens a client from this machine to the service; waits until it is loaded."""

    @contextmanager
    def _connect(
        *, client: tuple[str, int] = ("127.0.0.1", 50_000), base: str = "http://localhost:8321",
        token: str = "", settings: ServeSettings | None = None, loaded: bool = True,
    ) -> Iterator[TestClient]:  # fmt: skip
        app = create_app(studio, settings or ServeSettings(refresh=0.02), console=False)  # type: ignore[arg-type]  # stand-in
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with TestClient(app, base, raise_server_exceptions=True, client=client, headers=headers) as made:
            while loaded and made.get("/ready").status_code != 200:
                pass
            yield made

    return _connect
