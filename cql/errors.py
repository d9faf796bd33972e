"""One error root. A message gives the rule, the value seen and the fix."""


class SightlineError(Exception):
    """Root of every error that Sightline raises on purpose."""


class InputError(SightlineError, ValueError):
    """The caller's value breaks a rule: the message names the rule, the value and the fix."""


class NotFoundError(SightlineError, LookupError):
    """No row has this id."""


class ConflictError(SightlineError):
    """Somebody else changed the same thing first; carries both versions in its message.

    `expected` and `found` are the versions as text, where there is a version: "" for none.
    """

    def __init__(self, message: str, *, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class UnavailableError(SightlineError):
    """A service (Cassandra, engine, shard host) did not answer in time; trying again may help."""


class IntegrityError(SightlineError):
    """Stored bytes do not match their checksum or their declared shape; never answered from."""
