"""How long after its revoke a session was last accepted elsewhere, as text for a page."""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Sequence

# Coarser where little is expected. Nothing is later than the lease.
EDGES_MS = (*range(0, 150, 10), *range(150, 300, 50), *range(300, 1_001, 100))
BAR = 50


def percentile(samples_ms: Sequence[float], share: float) -> float:
    """Returns the smallest sample that so large a share of them does not exceed."""
    return sorted(samples_ms)[math.ceil(share * len(samples_ms)) - 1]


def histogram(samples_ms: Sequence[float]) -> list[str]:
    """Returns a line for those of no ms, one for each step up to the last that has any, and how
    many ms a half, 99 and 99.9 of 100 and all of them are within.
    """
    none = sum(sample == 0 for sample in samples_ms)
    steps = Counter(bisect.bisect(EDGES_MS, sample) for sample in samples_ms if sample > 0)
    most = max([none, *steps.values()])

    def line(label: str, count: int) -> str:
        return f"{label:>13}  {count:>6,}  {'#' * math.ceil(count * BAR / most)}".rstrip()

    pairs = enumerate(itertools.pairwise(EDGES_MS), 1)
    return [
        line("none accepted", none),
        *(
            line(f"{low}-{high} ms", steps[at])
            for at, (low, high) in pairs
            if at <= max(steps, default=0)
        ),
        ", ".join(
            f"{name} {percentile(samples_ms, share):.0f} ms"
            for name, share in (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
        ),
    ]
