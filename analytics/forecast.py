"""How long a job still takes, by the steps of earlier jobs of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

_SURE = 0.1
"""Share of a step from which its own pace counts, not that of earlier jobs."""
ENOUGH_S = 5.0
"""Seconds from which a pace says something: the first units wait for compilers and caches."""
ENOUGH_SHARE, ENOUGH_UNITS = 0.05, 100
"""Share of a step, or units of a long one, that must be done before its pace says something."""
_PACE = (0.2, 5.0)
"""How much faster or slower than earlier jobs this one may be taken to be."""

LEAST_RATE = 0.05
"""Units a second below which a rate would read as 0.0: it is not shown."""


def left_of_step(done: int, total: int, rate: float) -> float | None:
    """Seconds left of a step at its own pace of `rate` units a second.

    None while that rests on too little, and where nothing is left.
    """
    if rate <= 0 or done >= total:
        return None
    much = done >= min(ENOUGH_SHARE * total, ENOUGH_UNITS)
    return (total - done) / rate if much and done / rate >= ENOUGH_S else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """How one step of a job went.

    `state`: running, done, kept (an earlier run did it), failed, cancelled, stopped (with its
    engine). `rows`: units done, as its progress told them.
    """

    step: str
    state: str
    seconds: float = 0.0
    rows: int = 0
    cpu_s: float = 0.0


class Forecast:
    """Seconds left of a job, from the steps of earlier ones (newest first) and its own pace.

    A step takes the median of what it took, for as many rows as this job has. What the finished
    steps of this job took, of what was foreseen, scales the rest, once that is some seconds.
    """

    def __init__(self, earlier: Sequence[Sequence[JobStep]]) -> None:
        self._newest = {each.step: each for each in earlier[0]} if earlier else {}
        self._seconds: dict[str, float] = {}
        for name, now in self._newest.items():
            own = [
                each.seconds * max(1, now.rows) / max(1, each.rows)
                for run in earlier
                for each in run
                if each.step == name and each.state == "done"
            ]
            if own:
                self._seconds[name] = median(own)

    def left(self, steps: Sequence[JobStep], *, total: int) -> float | None:
        """Seconds left after `steps`; the running one has `total` units (0: not known).

        None without an earlier job.
        """
        now = next((each for each in steps if each.state == "running"), None)
        if not self._seconds or now is None:
            return None
        ended = [each for each in steps if each.state in {"done", "kept"}]
        size = self._size([*ended, replace(now, rows=total)])
        done = [each for each in ended if each.state == "done" and each.step in self._seconds]
        foreseen = sum(self._seconds[each.step] for each in done) * size
        took = sum(each.seconds for each in done)
        known = max(foreseen, took) >= ENOUGH_S and foreseen > 0 and took > 0
        pace = min(max(took / foreseen, _PACE[0]), _PACE[1]) if known else 1.0
        behind = {now.step, *(each.step for each in ended)}
        rest = sum(took for name, took in self._seconds.items() if name not in behind)
        share = min(1.0, now.rows / total) if total > 0 else 0.0
        if share >= _SURE and now.seconds >= ENOUGH_S:
            own = now.seconds * (1 - share) / share
        else:
            own = max(0.0, self._seconds.get(now.step, 0.0) * size * pace - now.seconds)
        return rest * size * pace + own

    def _size(self, steps: Sequence[JobStep]) -> float:
        """Rows of this job beside those of the newest earlier one."""
        for each in steps:
            before = self._newest.get(each.step)
            if before is not None and before.rows > 0 and each.rows > 0:
                return each.rows / before.rows
        return 1.0
