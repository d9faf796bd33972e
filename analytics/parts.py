"""Work on parts of named arrays: by threads in memory, or by Spark tasks over mapped files.

A work is a function of a module, `work(arrays, first, last, **options) -> int`, that writes only
what belongs to rows first to last. Where parts begin does not depend on who does them, and a part
runs on one thread, so that all ways of running give the same bits.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Arrays = Mapping[str, NDArray[Any]]
Work = Callable[..., int]

_AHEAD = 8
"""Parts a core that are given to Spark at once: between two lots, progress is told."""

_COPY = 16_384


class Parts:
    """Arrays by name, and who works on them. Close it: scratch files are deleted.

    `spark` None: `threads` threads. Else: Spark tasks, which map the arrays from files in a new
    folder below `folder`, on this machine or on a path that all executors share.
    """

    def __init__(
        self, threads: int, *, spark: SparkSession | None = None, folder: Path | None = None
    ) -> None:
        self._threads, self._spark = max(1, threads), spark
        self._arrays: dict[str, NDArray[Any]] = {}
        self._folder: Path | None = None
        if spark is not None:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="parts-", dir=folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._arrays = {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def make(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Make an array, not filled."""
        if self._folder is None or 0 in shape:
            self._arrays[name] = np.empty(shape, dtype)
        else:
            self.drop(name)
            self._arrays[name] = np.lib.format.open_memmap(
                self._folder / f"{name}.npy", mode="w+", dtype=np.dtype(dtype), shape=shape
            )
        return self._arrays[name]

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Name an array; Spark tasks get a copy in a file."""
        if self._folder is None:
            self._arrays[name] = array
            return
        kept = self.make(name, array.shape, array.dtype)
        for start in range(0, len(array), _COPY):
            kept[start : start + _COPY] = array[start : start + _COPY]

    def swap(self, one: str, other: str) -> None:
        """Exchange the names of two arrays."""
        self._arrays[one], self._arrays[other] = self._arrays[other], self._arrays[one]
        if self._folder is not None:
            first, second, spare = (
                self._folder / f"{name}.npy" for name in (one, other, f"{one}.{other}")
            )
            first.rename(spare)
            second.rename(first)
            spare.rename(second)

    def drop(self, *names: str) -> None:
        """Forget arrays."""
        for name in names:
            self._arrays.pop(name, None)
            if self._folder is not None:
                (self._folder / f"{name}.npy").unlink(missing_ok=True)

    def run(
        self,
        work: Work,
        parts: Sequence[tuple[int, int]],
        names: Sequence[str],
        *,
        progress: Progress = silent,
        step: str = "neighbours",
        **options: Any,
    ) -> list[int]:
        """Do all parts with the arrays of these names; what the work returned, by part.

        Whatever the work or `progress` raises is raised here, and no further part is begun.
        """
        total = parts[-1][1] if parts else 0
        done: list[int] = []
        # Closed at once, whatever `progress` raises: no thread works on for nobody.
        with closing(self._each(work, parts, names, options)) as each:
            for (_, last), made in zip(parts, each, strict=True):
                done.append(made)
                progress(step, last, total)
        return done

    def _each(
        self,
        work: Work,
        parts: Sequence[tuple[int, int]],
        names: Sequence[str],
        options: Mapping[str, Any],
    ) -> Generator[int, None, None]:
        if self._spark is None or self._folder is None:
            arrays = {name: self._arrays[name] for name in names}
            with threadpool_limits(1), ThreadPoolExecutor(self._threads) as pool:
                waiting = [pool.submit(work, arrays, *part, **options) for part in parts]
                try:
                    for each in waiting:
                        yield each.result()
                finally:
                    pool.shutdown(cancel_futures=True)
            return
        context = self._spark.sparkContext
        task = partial(_task, work=work, names=tuple(names), folder=self._folder, options=options)
        lot = _AHEAD * self._threads
        for start in range(0, len(parts), lot):
            given = parts[start : start + lot]
            yield from context.parallelize(given, len(given)).map(task).collect()


def cut(rows: int, size: int) -> list[tuple[int, int]]:
    """Parts of at most `size` of `rows` rows."""
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def _task(
    part: tuple[int, int],
    *,
    work: Work,
    names: Sequence[str],
    folder: Path,
    options: Mapping[str, Any],
) -> int:
    """Run in a Spark task: map the arrays and do one part."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in names}
    with threadpool_limits(1):
        # Compiled code is made once for each kind of array, and a map is another kind.
        return work({name: np.asarray(array) for name, array in arrays.items()}, *part, **options)
