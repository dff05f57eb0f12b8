"""What can be set about the service, one field each."""

from __future__ import annotations

from dataclasses import dataclass

from matinee.checks import must


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Limits and rhythms of the service.

    Example:
        >>> ServeSettings(max_in_flight=16).max_body
        1048576
    """

    max_body: int = 1 << 20
    """Longest request body in bytes; a longer one is refused (413) before it is read."""
    timeout: float = 5.0
    """Seconds that a request may take, reading its body included."""
    max_in_flight: int = 64
    """Requests that may be at work or waiting at once; one more is refused (503) with `Retry-After`, never queued."""
    max_connections: int = 2_000
    """Open connections; the server refuses more."""
    max_outcomes: int = 1_000
    """Outcomes in one request."""
    threads: int = 16
    """Threads for what blocks: reading features, waiting for the disk."""
    refresh: float = 1.0
    """Seconds between looks for newly released policies and newly published features."""
    drain: float = 0.0
    """Seconds between the signal to stop and the end of accepting, in which `/ready` already says no."""
    grace: float = 10.0
    """Seconds that requests in flight may take to end after the server stopped accepting."""
    hosts: tuple[str, ...] = ()
    """Host names by which the service may be addressed; without tokens only those of the loopback are taken anyway."""

    def __post_init__(self) -> None:
        for name in ("max_body", "max_in_flight", "max_connections", "max_outcomes", "threads"):
            must(getattr(self, name), name, typ=int, ge=1)
        for name in ("timeout", "refresh"):
            must(getattr(self, name), name, typ=(int, float), gt=0)
        for name in ("drain", "grace"):
            must(getattr(self, name), name, typ=(int, float), ge=0)
