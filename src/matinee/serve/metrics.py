"""Counters and latencies in Prometheus' text format, version 0.0.4. No client library: it is a page of text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass
class _Latency:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0


@dataclass
class Metrics:
    """What this process has answered since it started.

    Example:
        >>> metrics = Metrics()
        >>> metrics.observe("decide", 200, 0.0007)
        >>> "matinee_requests_total{route=\\"decide\\",status=\\"200\\"} 1" in metrics.text({}, {})
        True
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    latencies: dict[str, _Latency] = field(default_factory=dict)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is the endpoint's name, never a path: paths are without number."""
        self.requests[route, status] += 1
        latency = self.latencies.get(route)
        if latency is None:
            latency = self.latencies[route] = _Latency()
        latency.counts[bisect_left(BUCKETS, seconds)] += 1
        latency.total += seconds

    def text(self, health: Mapping[str, Any], gauges: Mapping[str, float]) -> str:
        """The page.

        Args:
            health: What `studio.health()` says; its counts `decisions:NAME`, `fallbacks:NAME` and `outcomes` are shown.
            gauges: Further values by full name.
        """
        lines = ["# HELP matinee_requests_total Answers by route and status.", "# TYPE matinee_requests_total counter"]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f"matinee_requests_total{_labels(route=route, status=status)} {count}")
        lines += [
            "# HELP matinee_request_seconds Time from the first byte read to the answer handed over.",
            "# TYPE matinee_request_seconds histogram",
        ]
        for route, latency in sorted(self.latencies.items()):
            running = 0
            for edge, count in zip((*BUCKETS, "+Inf"), latency.counts):
                running += count
                lines.append(f"matinee_request_seconds_bucket{_labels(route=route, le=edge)} {running}")
            lines.append(f"matinee_request_seconds_sum{_labels(route=route)} {latency.total:.6f}")
            lines.append(f"matinee_request_seconds_count{_labels(route=route)} {running}")
        lines += _studio_lines(health)
        for name, value in gauges.items():
            lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _studio_lines(health: Mapping[str, Any]) -> list[str]:
    counts: Mapping[str, int] = health.get("counts", {})
    lines: list[str] = []
    for kind, meaning in (("decisions", "Choices made"), ("fallbacks", "Choices that fell back")):
        lines += [f"# HELP matinee_{kind}_total {meaning}, by decision.", f"# TYPE matinee_{kind}_total counter"]
        for name, count in sorted(counts.items()):
            head, _, decision = name.partition(":")
            if head == kind and decision:
                lines.append(f"matinee_{kind}_total{_labels(decision=decision)} {count}")
    lines += ["# HELP matinee_outcomes_total Outcomes recorded.", "# TYPE matinee_outcomes_total counter"]
    lines.append(f"matinee_outcomes_total {counts.get('outcomes', 0)}")
    lines += ["# HELP matinee_generation Generation of the online features in use.", "# TYPE matinee_generation gauge"]
    lines.append(f"matinee_generation {health.get('generation') or 0}")
    return lines


def _labels(**labels: object) -> str:
    """`{route="decide",status="200"}`, with the three characters escaped that the format asks for."""
    parts = []
    for name, value in labels.items():
        text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        parts.append(f'{name}="{text}"')
    return "{" + ",".join(parts) + "}"
