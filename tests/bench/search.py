"""Search beside its peers: `python -m tests.bench.search [--quick|--full] [--json FILE]`.

Ours is measured end to end: features in Cassandra, shards built by Spark, resident hosts,
aggregation to listings, published hits that are read back. Peers score images in this process, on
as many threads. Calls are made in turn; a figure is the median. `--work` picks some of the works.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cql.settings import ROOT
from tests.bench import claims, small
from tests.bench.rows import Row, save, table
from tests.bench.service import Service
from tests.bench.vectors import Dataset
from tests.bench.works import Bench, Plan

QUICK = (Dataset(20_000, 512, "clustered"),)
FULL = (
    *QUICK,
    Dataset(250_000, 4000, "isotropic"),
    Dataset(1_000_000, 512, "isotropic"),
    Dataset(1_000_000, 512, "clustered"),
    Dataset(3_000_000, 512, "isotropic"),  # the largest that 24 GiB hold beside FAISS's copy
)
WORKS = (
    "one-query", "together", "in-stock", "attribute", "memory", "build", "fresh", "others",
    "bandwidth", "sai", "claims", *claims.WORKS, "fixed", "http",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 0 also where targets are missed."""
    options = parse(arguments)
    plan = Plan(
        repeats=options.repeats or (9 if options.full else 5),
        threads=os.cpu_count() or 1,
        fresh=5 if options.full else 2,
    )
    say(
        f"{platform.processor() or platform.machine()}, {plan.threads} threads for ours and for "
        f"every peer, {plan.repeats} rounds in turn"
    )
    rows: list[Row] = []
    for dataset in chosen(options.full, options.size):
        say(f"{dataset.size}: {dataset.listings:,} listings")
        with Service(dataset, options.cache, large=dataset.rows > 100_000) as service:
            say(f"loaded in {service.load_s:.1f} s, snapshot built in {service.build_s:.1f} s")
            for made in measured(service, plan, options.work, first=not rows):
                rows += made
                # After every work: a run of an hour that is ended keeps what it has.
                if options.json:
                    save(rows, options.json)
        gc.collect()
    say("\n" + table(rows))
    return 0


def measured(
    service: Service, plan: Plan, works: Sequence[str], *, first: bool
) -> Iterator[list[Row]]:
    """Rows of one service, work by work; the `first` also gives what depends on no collection."""
    bench = Bench(service, plan)
    by_name: dict[str, Callable[[], list[Row]]] = {
        "one-query": bench.one_query,
        "together": bench.together,
        "in-stock": bench.in_stock,
        "attribute": bench.attribute,
        "memory": bench.memory,
        "build": bench.build,
        "fresh": bench.fresh,
        "bandwidth": bench.bandwidth,
        "others": bench.others,
        "sai": bench.sai,
    }
    if first:
        by_name |= claims.works(service, plan)
    if first and {"fixed", "http"} & set(works):
        # Last: it ends the hosts of the collection.
        by_name["fixed"] = lambda: small.fixed(
            service, repeats=10 * plan.repeats, web="http" in works
        )
    for name, call in by_name.items():
        if name in works or name == "fixed" or ("claims" in works and name in claims.WORKS):
            yield timed(name, call)


def timed(name: str, call: Callable[[], list[Row]]) -> list[Row]:
    """Run one work and tell how long it took."""
    began = time.perf_counter()
    rows = call()
    say(table(rows) + f"\n  ({name} took {time.perf_counter() - began:.1f} s)")
    return rows


def chosen(full: bool, sizes: Sequence[str]) -> list[Dataset]:
    """Data sets of a run: by name part where sizes are named, such as `1000000x512`."""
    known = FULL if full or sizes else QUICK
    found = [each for each in known if not sizes or any(part in each.name for part in sizes)]
    if not found:
        names = ", ".join(each.name for each in FULL)
        raise SystemExit(f"no size is called {', '.join(sizes)}: the sizes are {names}")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="20,000 x 512 (the default)")
    size.add_argument(
        "--full", action="store_true", help="all sizes; needs 24 GB and 70 GB of disk"
    )
    parser.add_argument("--size", nargs="+", default=[], help="only data sets whose name has this")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=[], help="only these")
    parser.add_argument("--repeats", type=int, default=0, help="rounds in turn, at least 5")
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / ".sightline" / "bench",
        help="folder that keeps vectors and loaded collections between runs",
    )
    options = parser.parse_args(arguments)
    if options.repeats and options.repeats < 5:
        parser.error(f"--repeats must be at least 5, got {options.repeats}")
    if not options.work:
        # Loading Cassandra's own index would take half of the time of a quick run.
        options.work = [name for name in WORKS if options.full or name != "sai"]
    options.cache = options.cache.absolute()
    return options


def say(text: str) -> None:
    """Print now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
