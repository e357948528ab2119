"""How long after its revoke a session was last accepted elsewhere, as text for a page."""

import math
from collections import Counter
from collections.abc import Sequence

BIN_MS = 10
BAR = 50


def percentile(samples_ms: Sequence[float], share: float) -> float:
    """Returns the smallest sample that so large a share of them does not exceed."""
    return sorted(samples_ms)[math.ceil(share * len(samples_ms)) - 1]


def histogram(samples_ms: Sequence[float]) -> list[str]:
    """Returns a line for each 10 ms up to the last that has any, under one for those of no ms."""
    none = sum(sample == 0 for sample in samples_ms)
    bins = Counter(int(sample // BIN_MS) for sample in samples_ms if sample > 0)
    most = max([none, *bins.values()])

    def line(label: str, count: int) -> str:
        return f"{label:>13}  {count:>6,}  {'#' * math.ceil(count * BAR / most)}".rstrip()

    return [
        line("none accepted", none),
        *(
            line(f"{number * BIN_MS}-{(number + 1) * BIN_MS} ms", bins[number])
            for number in range(max(bins, default=-1) + 1)
        ),
        ", ".join(
            f"{name} {percentile(samples_ms, share):.0f} ms"
            for name, share in (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
        ),
    ]
