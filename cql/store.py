"""The one door to what is stored: typed reads and writes, synchronous, safe for many threads."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from cassandra.cluster import Session

from cql.access import Access
from cql.comparisons import Comparisons
from cql.ledger import Ledger
from cql.predicted import Predicted
from cql.results import Results
from cql.session import close, connect
from cql.settings import Settings
from cql.taught import Taught
from cql.vectors import Vectors
from cql.work import Work


class Store(Vectors, Work, Ledger, Taught, Predicted, Results, Comparisons):
    """Everything that is stored about one collection.

    Each method says which error of `cql.errors` it raises besides `UnavailableError`, which any
    of them raises when Cassandra does not answer. A write returns when it is durable.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        self.settings = settings
        self._session = session
        self._access = Access(session, settings)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect by the settings; the schema must be there (`cql.migrations.migrate`).

        Raises:
            UnavailableError: Cassandra does not answer.
        """
        return cls(connect(settings), settings)

    def close(self) -> None:
        """Close the session, whoever opened it."""
        close(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
