"""How many requests a second a caller may make of this process: one token bucket per caller.

Each API process counts for itself, so a caller of n processes gets up to n times its rate; what it
protects is this process and its share of database connections.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from tracker.errors import RateLimited

CALLERS_MAX = 10_000
"""Buckets kept; beyond it the caller that was quiet longest begins with a full one."""


class RateLimiter:
    """Token buckets; a second's worth of requests may come at once, one at least."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, rate: float | None) -> None:
        """Count a request.

        Args:
            caller: Whose bucket.
            rate: Requests a second, more than 0; None: without limit.

        Raises:
            RateLimited: The bucket is empty; `details["retry_after"]` has the whole seconds after
                which it is not.
        """
        if rate is None:
            return
        now, burst = self._clock(), max(1.0, rate)
        tokens, at = self._buckets.pop(caller, (burst, now))
        tokens = min(burst, tokens + (now - at) * rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited(
                f"{caller!r} may make {rate:g} requests a second; wait and repeat this one",
                rate=rate,
                retry_after=math.ceil((1 - tokens) / rate),
            )
