"""The settings table: every knob with type, default, bounds and help; from flags, env and file.

Order of precedence: explicit overrides (flags), `SIGHTLINE_<NAME>` in the environment,
`sightline.toml` (the path in `SIGHTLINE_CONFIG`, else in the working directory), the default.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cql.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
"""The checkout (or installation) that this code runs from."""

PREFIX = "SIGHTLINE_"


def _setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={
            "help": text,
            "low": low,
            "high": high,
            "choices": choices,
            "pattern": pattern,
            "secret": secret,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process. Immutable; `Settings.load()` builds it, tests pass keywords."""

    # A dataclass field is made by the call, not a shared default.
    data_dir: Path = _setting(  # noqa: RUF009
        ROOT / ".sightline" / "sample",
        "Folder of one collection: embedded Cassandra, shards, map tables, uploads, logs.",
    )
    jars_dir: Path = _setting(  # noqa: RUF009
        ROOT / ".sightline" / "jars", "Folder of the pinned, checksummed Java archives."
    )
    content_url: str = _setting(
        "",
        "fsspec URL of the content-addressed store for uploads and weights; "
        "empty means the folder `content` in data_dir.",
    )
    cassandra_hosts: tuple[str, ...] = _setting(
        (),
        "Contact points of an external Cassandra, comma-separated; empty starts the embedded one.",
    )
    cassandra_port: int = _setting(9042, "CQL port of the external Cassandra.", low=1, high=65535)
    cassandra_user: str = _setting("", "User name for the external Cassandra.")
    cassandra_password: str = _setting("", "Password for the external Cassandra.", secret=True)
    cassandra_datacenter: str = _setting(
        "datacenter1", "Local data centre of the external Cassandra."
    )
    cassandra_heap_mb: int = _setting(
        1024, "Heap of the embedded Cassandra, MiB.", low=256, high=31744
    )
    keyspace: str = _setting(
        "sightline",
        "Keyspace of the collection; results live in `<keyspace>_results`.",
        # Cassandra allows 48 characters, the suffix included.
        pattern="[a-z][a-z0-9_]{0,39}",
    )
    replication: int = _setting(
        0, "Copies of each row; 0 means 3 in a cluster, 1 embedded.", low=0, high=9
    )
    spark_master: str = _setting(
        "", "Spark master URL; empty runs Spark in the engine process on this machine's cores."
    )
    spark_memory_mb: int = _setting(
        2048, "Memory of the Spark driver (and of each executor in a cluster), MiB.", low=512
    )
    cores: int = _setting(
        0, "Cores that local Spark and torch may use; 0 means all of them.", low=0, high=1024
    )
    shard_hosts: int = _setting(
        1, "Resident shard hosts (long-running Spark tasks) to place.", low=1, high=4096
    )
    shard_rows: int = _setting(
        131072, "Most feature rows in one shard; a listing is never split.", low=1
    )
    shards_dir: str = _setting(
        "",
        "Folder of the shard files, an absolute path: of a cluster, on each machine's own disk; "
        "empty means the folder `shards` in data_dir, which all of them share. The variable in the "
        "environment of a machine's Spark worker wins.",
        pattern="(/.*)?",
    )
    shard_copies: int = _setting(
        2,
        "Machines that keep the files of each shard on their own disk, where there are as many "
        "hosts; more than 1 spares a new build when one is lost.",
        low=1,
        high=16,
    )
    layout_rows: int = _setting(
        2_000_000,
        "Most images that one node lays out whole; of more, so many are landmarks and Spark tasks "
        "place the others around them. Below the default a layout takes minutes and a few GB.",
        low=10,
        high=100_000_000,
    )
    model: str = _setting(
        "sightline-small",
        "Model that embeds images: `sightline-small`, `timm:<name>`, or "
        "`file:<path>.safetensors:<architecture>`.",
    )
    patches: str = _setting(
        "on",
        "Whether extraction also keeps features of the regions of each picture, which show a small "
        "strange thing in an ordinary picture.",
        choices=("on", "off"),
    )
    batch_size: int = _setting(64, "Images in one forward pass.", low=1, high=4096)
    max_image_pixels: int = _setting(120_000_000, "A picture with more pixels is refused.", low=1)
    max_image_mb: int = _setting(256, "A file larger than this is refused, MiB.", low=1)
    decode_timeout_s: float = _setting(20.0, "Seconds that decoding one picture may take.", low=0.1)
    decode_memory_mb: int = _setting(
        2048, "Address space growth that decoding may cause in its process, MiB.", low=256
    )
    thumbnail_px: int = _setting(256, "Longest side of a thumbnail, pixels.", low=32, high=1024)
    query_ttl_days: int = _setting(30, "Days that published query results are kept.", low=1)
    query_deadline_s: float = _setting(
        30.0, "Seconds after which a query fails instead of waiting for shard hosts.", low=0.1
    )
    host: str = _setting(
        "127.0.0.1",
        "Address that the dashboard binds to. There is no login: another address than loopback "
        "belongs behind a proxy that has one.",
    )
    port: int = _setting(8050, "Port of the dashboard; 0 picks a free one.", low=0, high=65535)
    wire_tls: str = _setting(
        "",
        "Folder with ca.pem, cert.pem (of the name `sightline`) and key.pem, readable by engine, "
        "hosts and web workers, whose calls to each other are then encrypted; empty means no "
        "encryption.",
    )
    web_workers: int = _setting(1, "Web worker processes.", low=1, high=64)
    tile_points: int = _setting(
        50_000, "Most points that one map tile carries.", low=100, high=1_000_000
    )
    log_level: str = _setting(
        "INFO",
        "Least severe message that is logged.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check(spec.name, getattr(self, spec.name), spec.metadata)

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, object] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        config: Path | None = None,
    ) -> Settings:
        """Read flags, environment and file. An unknown key anywhere is an `InputError`."""
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for source, raw in (
            *_file_values(env, config),
            *_env_values(env),
            *(("flags", item) for item in (overrides or {}).items()),
        ):
            key, value = raw
            values[key] = _convert(source, key, value)
        return cls(**values)

    def replace(self, **changes: object) -> Settings:
        """A copy with some values changed (checked again)."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def embedded(self) -> bool:
        """Whether Sightline runs its own Cassandra."""
        return not self.cassandra_hosts

    @property
    def results_keyspace(self) -> str:
        """Keyspace of everything that can be computed again."""
        return f"{self.keyspace}_results"

    @property
    def content(self) -> str:
        """fsspec URL of the content-addressed store."""
        # fsspec takes the rest of a file URL as it stands: nothing in it may be percent-encoded.
        return self.content_url or f"file://{self.data_dir / 'content'}"

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for a child process (secrets included)."""
        return {
            PREFIX + spec.name.upper(): _text(getattr(self, spec.name))
            for spec in dataclasses.fields(self)
        }


def names() -> tuple[str, ...]:
    """Names of all settings, in table order."""
    return tuple(spec.name for spec in dataclasses.fields(Settings))


def table() -> list[dict[str, str]]:
    """Rows of the documentation: name, variable, default, help. Paths are from the checkout."""
    rows = []
    for spec in dataclasses.fields(Settings):
        default = spec.default
        if isinstance(default, Path):
            default = default.relative_to(ROOT)
        rows.append(
            {
                "name": spec.name,
                "variable": PREFIX + spec.name.upper(),
                "default": _text(default),
                "help": spec.metadata["help"],
            }
        )
    return rows


_NOT_SETTINGS = frozenset({"SIGHTLINE_CONFIG"})


def _env_values(env: Mapping[str, str]) -> list[tuple[str, tuple[str, object]]]:
    found: list[tuple[str, tuple[str, object]]] = []
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS:
            continue
        found.append((variable, (variable.removeprefix(PREFIX).lower(), env[variable])))
    return found


def _file_values(
    env: Mapping[str, str], config: Path | None
) -> list[tuple[str, tuple[str, object]]]:
    named = config or (Path(env["SIGHTLINE_CONFIG"]) if "SIGHTLINE_CONFIG" in env else None)
    path = named or Path("sightline.toml")
    if not path.exists():
        if named is not None:
            raise InputError(
                f"the settings file must exist, {path} does not: create it or unset it"
            )
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} must be TOML: {error}") from error
    return [(str(path), item) for item in content.items()]


def _convert(source: str, key: str, value: object) -> Any:
    by_name = {spec.name: spec for spec in dataclasses.fields(Settings)}
    if key not in by_name:
        raise InputError(
            f"{source}: no setting is called {key!r}; the settings are {', '.join(by_name)}"
        )
    default = by_name[key].default
    kind: Any = type(default)
    wrong = f"{source}: {key} must be {kind.__name__}, got {value!r}"
    if isinstance(default, Path):
        return Path(str(value)).expanduser().absolute()
    if not _is_plain(value, kind):
        raise InputError(wrong)
    try:
        if isinstance(default, tuple):
            items = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            return tuple(str(item).strip() for item in items if str(item).strip())
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InputError(wrong) from error


def _is_plain(value: object, kind: type) -> bool:
    """Whether conversion loses nothing: Python makes 1 of true and 8050 of 8050.9 silently."""
    if kind is str:
        return isinstance(value, str)
    cut = kind is int and isinstance(value, float) and not value.is_integer()
    return not isinstance(value, bool) and not cut


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    low, high, choices, pattern = (rule[key] for key in ("low", "high", "choices", "pattern"))
    if low is not None and not value >= low:
        raise InputError(f"{name} must be at least {low}, got {value}: raise it")
    if high is not None and not value <= high:
        raise InputError(f"{name} must be at most {high}, got {value}: lower it")
    if choices and value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if pattern and not re.fullmatch(pattern, value):
        raise InputError(f"{name} must match {pattern}, got {value!r}: choose another")


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
