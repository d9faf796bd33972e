"""Figures of the embedded default beside its teacher's, on the classes that training never saw.

`python -m dashboard.training` prints them and writes them into the description of the weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analytics import retrieval
from cql.errors import SightlineError
from cql.progress import Progress, silent
from cql.settings import ROOT

DATA = ROOT.parent / "shared" / "data"
TEACHER = DATA / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
PHOTOS = DATA / "grocery"
DESCRIPTION = ROOT / "extraction" / "weights" / "sightline-small.json"

Figures = dict[str, dict[str, float]]


def evaluate(
    *,
    teacher: Path = TEACHER,
    photos: Path = PHOTOS,
    description: Path = DESCRIPTION,
    threads: int = 2,
    progress: Progress = silent,
) -> Figures:
    """Retrieval figures and speed by model, on the held-out classes; see `train.evaluate`."""
    from extraction import train

    return train.evaluate(
        teacher=teacher,
        photos=photos,
        measure=measure,
        description=description,
        threads=threads,
        progress=progress,
    )


def measure(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Mapping[str, float]:
    """Retrieval figures by name (see `analytics.retrieval.Quality`)."""
    return retrieval.quality(features, labels).as_dict()


def table(figures: Figures) -> str:
    """The figures as a text table, one line a model."""
    columns = list(next(iter(figures.values())))
    lines = ["  ".join(["model".ljust(16), *columns])]
    for name, row in figures.items():
        cells = [f"{row[column]:g}".rjust(len(column)) for column in columns]
        lines.append("  ".join([name.ljust(16), *cells]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 after an error that names its rule."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.training", description=__doc__)
    parser.add_argument("--teacher", type=Path, default=TEACHER, help="weights (safetensors)")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder with train.txt")
    parser.add_argument("--description", type=Path, default=DESCRIPTION, help="JSON of the weights")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        figures = evaluate(**vars(given))
    except SightlineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(table(figures) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
