"""Peers of the search: each prepared from the same file of vectors, asked for the same k images.

All of them run in this process on as many threads as the hosts have, except Cassandra's own index,
which runs in Cassandra. A peer scores images; only ours reduces them to listings and publishes.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from cql.settings import Settings

_BLOCK = 65_536

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Peer(Protocol):
    """Something that finds the k images of the largest inner product."""

    name: str

    def prepare(self, path: Path) -> None:
        """Take in the vectors of an .npy file, float32 (N, D)."""

    def search(self, query: Floats, k: int) -> Rows:
        """Find the rows of the k best images of one query (D,)."""

    def close(self) -> None:
        """Give back memory and files."""


class Numpy:
    """The whole matrix in memory: matrix-vector product, argpartition, sort of k."""

    def __init__(self, threads: int) -> None:
        from threadpoolctl import threadpool_limits

        self.name = f"NumPy {np.__version__}"
        self._limit = threadpool_limits(threads, user_api="blas")

    def prepare(self, path: Path) -> None:
        """Read the matrix."""
        self._vectors = np.load(path)

    def search(self, query: Floats, k: int) -> Rows:
        """One product."""
        return _best(self._vectors @ query, k)

    def batch(self, queries: Floats, k: int) -> list[Rows]:
        """One matrix product for all."""
        return [_best(scores, k) for scores in queries @ self._vectors.T]

    def close(self) -> None:
        """Drop the matrix."""
        del self._vectors
        self._limit.unregister()


class Faiss:
    """IndexFlatIP."""

    def __init__(self, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self.name = f"FAISS {faiss.__version__} IndexFlatIP"

    def prepare(self, path: Path) -> None:
        """Add all rows."""
        import faiss

        vectors = np.load(path, mmap_mode="r")
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        for start in range(0, len(vectors), _BLOCK):
            self._index.add(np.ascontiguousarray(vectors[start : start + _BLOCK]))

    def search(self, query: Floats, k: int) -> Rows:
        """One query."""
        rows: Rows = self._index.search(query[None], k)[1][0]
        return rows

    def batch(self, queries: Floats, k: int) -> list[Rows]:
        """All queries in one call."""
        return list(self._index.search(queries, k)[1])

    def close(self) -> None:
        """Drop the index."""
        self._index.reset()


class Usearch:
    """The exact search of usearch, float32."""

    def __init__(self, threads: int) -> None:
        self.name = f"usearch {importlib.metadata.version('usearch')} exact"
        self._threads = threads

    def prepare(self, path: Path) -> None:
        """Read the matrix."""
        self._vectors = np.load(path)

    def search(self, query: Floats, k: int) -> Rows:
        """One query."""
        from usearch.index import MetricKind
        from usearch.index import search as exact

        found = exact(self._vectors, query, k, MetricKind.IP, exact=True, threads=self._threads)
        return np.asarray(found.keys, np.int64)

    def close(self) -> None:
        """Drop the matrix."""
        del self._vectors


class Numkong:
    """int8 codes scored by numkong in threads, the best 10,000 again in float32: not exact."""

    def __init__(self, threads: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.name = f"numkong {importlib.metadata.version('numkong')} int8 + float32 re-rank"
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def prepare(self, path: Path) -> None:
        """Quantise all rows by one scale."""
        self._vectors = np.load(path, mmap_mode="r")
        largest = max(
            float(np.abs(self._vectors[start : start + _BLOCK]).max())
            for start in range(0, len(self._vectors), _BLOCK)
        )
        self._scale = np.float32(127 / largest)
        self._codes = np.empty(self._vectors.shape, np.int8)
        for start in range(0, len(self._vectors), _BLOCK):
            part = self._vectors[start : start + _BLOCK] * self._scale
            self._codes[start : start + _BLOCK] = np.rint(part)
        self._parts = np.array_split(self._codes, self._threads)

    def search(self, query: Floats, k: int) -> Rows:
        """Scan the codes, then score the nearest in float32."""
        import numkong

        step = np.float32(127 / np.abs(query).max())
        code = np.rint(query * step).astype(np.int8)[None]

        def scan(part: NDArray[np.int8]) -> NDArray[Any]:
            return np.asarray(numkong.cdist(code, part, "dot")).reshape(-1)

        rough = np.concatenate(list(self._pool.map(scan, self._parts)))
        near = np.sort(_best(rough, min(10_000, len(rough))))
        return near[_best(self._vectors[near] @ query, k)]

    def close(self) -> None:
        """Drop the codes."""
        self._pool.shutdown()
        del self._codes, self._parts, self._vectors


class Lance:
    """LanceDB: vectors in files, scanned flat or through its default index."""

    def __init__(self, threads: int, folder: Path, *, index: bool) -> None:
        os.environ["LANCE_CPU_THREADS"] = str(threads)
        import lancedb

        kind = "default index" if index else "flat"
        self.name = f"LanceDB {lancedb.__version__} {kind}"
        self._index = index
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="lance-", dir=folder))

    def prepare(self, path: Path) -> None:
        """Write a table of all rows; build its index."""
        import lancedb
        import pyarrow as pa

        vectors = np.load(path, mmap_mode="r")
        dim = vectors.shape[1]
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

        def batches() -> Any:
            for start in range(0, len(vectors), _BLOCK):
                part = np.ascontiguousarray(vectors[start : start + _BLOCK])
                listed = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), dim)
                rows = pa.array(np.arange(start, start + len(part)))
                yield pa.record_batch([rows, listed], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._table = lancedb.connect(str(self._folder)).create_table("v", reader)
        if self._index:
            # Vectors have unit length, so cosine ranks as the inner product does.
            self._table.create_index(metric="cosine", vector_column_name="vector")

    def search(self, query: Floats, k: int) -> Rows:
        """One query."""
        asked = self._table.search(query, vector_column_name="vector")
        asked = asked.distance_type("cosine").select(["row", "_distance"]).limit(k)
        rows: Rows = asked.to_arrow()["row"].to_numpy()
        return rows

    def close(self) -> None:
        """Delete the table."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Sai:
    """Cassandra's own vector index, in the Cassandra that holds the collection."""

    KEYSPACE = "bench_sai"

    def __init__(self, settings: Settings) -> None:
        from cql.session import connect

        self._session: Session = connect(settings)
        version = self._session.execute("SELECT release_version FROM system.local").one()[0]
        self.name = f"Cassandra {version} SAI vector index"

    def prepare(self, path: Path) -> None:
        """Write all rows under an index of the inner product, and flush nothing: writes index."""
        from cassandra.concurrent import execute_concurrent_with_args

        vectors = np.load(path, mmap_mode="r")
        table = f"{self.KEYSPACE}.v"
        self.close_table()
        dim = vectors.shape[1]
        keyspace = (
            f"CREATE KEYSPACE {self.KEYSPACE} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        rows = f"CREATE TABLE {table} (row int PRIMARY KEY, v vector<float, {dim}>)"
        index = (
            f"CREATE CUSTOM INDEX ON {table} (v) USING 'StorageAttachedIndex' "
            "WITH OPTIONS = {'similarity_function': 'dot_product'}"
        )
        for text in (keyspace, rows, index):
            self._session.execute(text, timeout=60)
        insert = self._session.prepare(f"INSERT INTO {table} (row, v) VALUES (?, ?)")
        values = ((row, vectors[row].tolist()) for row in range(len(vectors)))
        execute_concurrent_with_args(self._session, insert, values, concurrency=64)
        self._ask = self._session.prepare(f"SELECT row FROM {table} ORDER BY v ANN OF ? LIMIT ?")

    def search(self, query: Floats, k: int) -> Rows:
        """One query."""
        found = self._session.execute(self._ask, (query.tolist(), k), timeout=60)
        return np.array([row[0] for row in found], np.int64)

    def close_table(self) -> None:
        """Drop the table."""
        self._session.execute(f"DROP KEYSPACE IF EXISTS {self.KEYSPACE}", timeout=60)

    def close(self) -> None:
        """Drop the table and the session."""
        from cql.session import close

        self.close_table()
        close(self._session)


def exact(threads: int) -> Sequence[Numpy | Faiss]:
    """The peers that the targets are about."""
    return (Numpy(threads), Faiss(threads))


def _best(scores: NDArray[Any], k: int) -> Rows:
    if k >= len(scores):
        return np.argsort(-scores, kind="stable").astype(np.int64)
    top = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
    return top[np.argsort(-scores[top], kind="stable")].astype(np.int64)
