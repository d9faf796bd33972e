"""What larger collections need: `python -m tests.bench.scaling ROWS.json [--doc docs/scaling.md]`.

Reads the rows that `tests.bench.search` wrote, takes rates a core from them, and prints nodes,
memory and seconds. With `--doc` the tables between the markers of a page are replaced.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rows import Row, load

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
USABLE = 0.75
"""Share of a node's memory for shards; the rest is for Spark, Cassandra and the system."""
REPLICAS = 3
CODED = 9 / 32
"""Bytes of all planes of codes for a byte of float32: nine bits a number."""

SIZES = {"300 GB": 300e9, "30 TB": 30e12}


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that runs Cassandra, a Spark executor and its shard host."""

    cores: int
    memory: float

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.cores} cores, {self.memory / 1e9:.0f} GB"


NODES = (Node(16, 128e9), Node(64, 512e9))


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured, a core and second: bytes of codes `scan`ned, float32 bytes taken through a `build`.

    `codes` and `resident`: bytes scanned, and resident in a host, for each byte of float32.
    `fixed_s`: what a query costs on an almost empty collection. `size`: where it was measured.
    """

    scan: float
    build: float
    codes: float
    resident: float
    fixed_s: float
    size: str


@dataclass(frozen=True, slots=True)
class Need:
    """What a collection takes: `query_s` and `build_s` on `nodes`, disk of a node with replicas."""

    nodes: int
    resident: float
    query_s: float
    build_s: float
    disk: float


def rates(rows: Sequence[Row]) -> Rates:
    """Rates from the largest collection that was measured. ValueError names a row that lacks."""
    scans = [row for row in rows if row.work == "bytes scanned a second" and row.ours]
    if not scans:
        raise ValueError("no row `bytes scanned a second` in the file: run with --work bandwidth")
    scan = max(scans, key=lambda row: float(row.quality.get("bytes") or 0))
    memory = _of(rows, "resident memory of the hosts", scan.size)
    build = _of(rows, "snapshot build: share beside reading", scan.size)
    fixed = _of(rows, "fixed cost through the service")
    float32 = _number(memory.theirs) * 1e6
    threads, seconds = _number(scan.quality["threads"]), _number(build.quality["build s"])
    return Rates(
        scan=_number(scan.ours) * 1e9 / threads,
        build=float32 / seconds / threads,
        codes=_number(scan.quality["bytes"]) / float32,
        resident=_number(memory.ours) * 1e6 / float32,
        fixed_s=_number(fixed.ours) / 1e3,
        size=scan.size,
    )


def need(features: float, node: Node, measured: Rates, *, within_s: float | None = None) -> Need:
    """Size a cluster for `features` bytes of float32: by memory, and by `within_s` a query.

    ValueError where no number of nodes is fast enough.
    """
    resident = features * measured.resident
    nodes = max(REPLICAS, math.ceil(resident / (node.memory * USABLE)))
    codes = features * measured.codes
    if within_s is not None:
        left = within_s - measured.fixed_s
        if left <= 0:
            raise ValueError(
                f"a query takes {measured.fixed_s * 1e3:.0f} ms beside its scan, so it cannot end "
                f"within {within_s * 1e3:.0f} ms: ask for more"
            )
        nodes = max(nodes, math.ceil(codes / (left * node.cores * measured.scan)))
    return Need(
        nodes=nodes,
        resident=resident,
        query_s=measured.fixed_s + codes / (nodes * node.cores * measured.scan),
        build_s=features / (nodes * node.cores * measured.build),
        disk=features * (REPLICAS + 1 + CODED) / nodes,
    )


def tables(measured: Rates) -> str:
    """The rates, then what each size needs, as Markdown."""
    lines = [
        f"| rate, measured at {measured.size} | figure |",
        "|---|---|",
        f"| codes scanned, a core (whole query, published) | {measured.scan / 1e9:.2f} GB/s |",
        f"| snapshot build from Cassandra, a core, of float32 | {measured.build / 1e6:.1f} MB/s |",
        f"| bytes of codes that a query reads for a byte of float32 | {measured.codes:.3f} |",
        f"| resident in the hosts for a byte of float32 | {measured.resident:.3f} |",
        f"| fixed cost of a query | {measured.fixed_s * 1e3:.0f} ms |",
        "",
        "| features | node | sized by | nodes | resident, all | one query | build | disk a node |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, size in SIZES.items():
        for node in NODES:
            for sized, within in (("memory", None), ("a query in 1 s", 1.0)):
                found = need(size, node, measured, within_s=within)
                lines.append(
                    f"| {name} | {node.name} | {sized} | {found.nodes:,} | "
                    f"{_bytes(found.resident)} | {found.query_s:.2f} s | {_span(found.build_s)} | "
                    f"{_bytes(found.disk)} |"
                )
    return "\n".join(lines)


def replaced(page: str, text: str) -> str:
    """Put text between the markers of a page. ValueError where they are missing."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page must have the markers {BEGIN} and {END}, once and in order")
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; write them into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("rows", type=Path, help="JSON of tests.bench.search")
    parser.add_argument("--doc", type=Path, help="page to write the tables into")
    options = parser.parse_args(arguments)
    text = tables(rates(load(options.rows)))
    sys.stdout.write(text + "\n")
    if options.doc:
        page = options.doc.read_text(encoding="utf-8")
        options.doc.write_text(replaced(page, text), encoding="utf-8")
    return 0


def _of(rows: Sequence[Row], work: str, size: str | None = None) -> Row:
    for row in rows:
        if row.work == work and size in {None, row.size} and row.ours is not None:
            return row
    raise ValueError(
        f"no row `{work}`{f' of {size}' if size else ''} in the file: measure it first"
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a rate must be a number, got {value!r}: measure again")  # noqa: TRY004
    return float(value)


def _bytes(value: float) -> str:
    return f"{value / 1e12:.1f} TB" if value >= 1e12 else f"{value / 1e9:.0f} GB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
