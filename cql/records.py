"""Frozen row types: what the store reads and writes. Times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "https://sightline.invalid/ids")
"""Root of every UUIDv5 that Sightline derives."""


def image_id_of(listing_id: str, content_hash: str) -> UUID:
    """Identity of a photo: the same bytes in the same listing are always the same image."""
    return uuid5(NAMESPACE, f"image\0{listing_id}\0{content_hash}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The thing photographed; `attributes` are text, as the manifest gave them."""

    listing_id: str
    title: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One decodable photo. `uri` is an fsspec URL; width and height are after EXIF orientation."""

    listing_id: str
    image_id: UUID
    uri: str
    content_hash: str
    width: int
    height: int
    format: str
    bytes: int
    position: int = 0
    added_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """WebP bytes of one image, longest side `thumbnail_px`."""

    image_id: UUID
    webp: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What one image says without a model, measured on its thumbnail.

    `sharpness` is the variance of the Laplacian (of 0..255 grey values, longest side 256);
    `brightness` and `contrast` are mean and standard deviation of grey, 0 to 1; `blank` is the
    share of pixels of the commonest tone, 0 to 1; `colour` the colourfulness of Hasler and
    Suesstrunk, 0 (grey) to about 150. `pixels` are those of the photo
    itself. `phash` is a signed 64-bit perceptual hash, `signature` the grey picture at 48 x 48,
    uint8, row by row.
    """

    listing_id: str
    image_id: UUID
    sharpness: float
    brightness: float
    contrast: float
    blank: float
    colour: float
    pixels: int
    phash: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """The terminal state of a file that an ingest saw: `ready` or `failed` (with the reason)."""

    source: str
    uri: str
    state: str
    reason: str = ""
    listing_id: str = ""
    image_id: UUID | None = None
    bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A backbone + transform + weights; `model_id` names all three."""

    model_id: str
    name: str
    architecture: str
    weights_sha256: str
    transform: str
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """`vector` is the raw little-endian float32 (dim,) of unit L2 norm."""

    listing_id: str
    model_id: str
    image_id: UUID
    vector: bytes
    dim: int
    crc32c: int
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """How many of a listing are for sale now."""

    listing_id: str
    inventory: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The set of shards that a query reads, built from Cassandra up to a watermark.

    `fingerprint` depends on the rows alone: equal data, equal fingerprint, however it is sharded.
    """

    snapshot_id: UUID
    model_id: str
    rows: int
    listings: int
    dim: int
    shards: int
    watermark: datetime
    created_at: datetime
    code_version: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One block of a snapshot; `files` maps file name to sha256."""

    snapshot_id: UUID
    shard: int
    rows: int
    listings: int
    first_listing: str
    last_listing: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A live process found by heartbeat: role `host` (shards), `engine` or `web`."""

    role: str
    service_id: UUID
    address: str
    snapshot_id: UUID | None = None
    shards: tuple[int, ...] = ()
    pid: int = 0
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search as asked and, once published, which attempt counts. `spec` is canonical JSON."""

    query_id: UUID
    spec: str
    model_id: str
    snapshot_id: UUID
    name: str = ""
    state: str = "running"
    attempt: UUID | None = None
    hits: int = 0
    rows: int = 0
    rows_scanned: int = 0
    seconds: float = 0.0
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One listing in a result: its score, and the image of it that won.

    `inventory` is what its stock row said at `stock_read_at`: None where it has no such row. Both
    are None where the search did not read stock.
    """

    score: float
    listing_id: str
    image_id: UUID
    inventory: int | None = None
    stock_read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapVersion:
    """A layout of a snapshot, clusters and outlier scores. `parameters` is JSON with the seed."""

    map_id: UUID
    model_id: str
    snapshot_id: UUID
    rows: int
    rows_scored: int
    clusters: int
    noise: int
    seed: int
    parameters: str
    quality: Mapping[str, float]
    code_version: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One image on a map. `cluster` is -1 for noise; scores are percentiles where named so."""

    image_id: UUID
    listing_id: str
    x: float
    y: float
    cluster: int
    membership: float
    outlier_score: float
    knn_distance: float
    glosh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`cluster_key` stays the same when a later map finds the same group again."""

    map_id: UUID
    cluster: int
    cluster_key: UUID
    size: int
    listings: int
    name: str
    exemplars: tuple[UUID, ...]
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A row of the ranked outlier table: score descending, then image id.

    `kind` is a guess at the sort: photo (a bad one), category, rare, or empty where nothing stands
    out. `evidence` is JSON: tail probability by name. `lof` is the local outlier factor, 0 where a
    map was made before it was computed.
    """

    map_id: UUID
    score: float
    image_id: UUID
    listing_id: str
    knn_distance: float
    glosh: float
    cluster: int
    reason: str
    kind: str = ""
    lof: float = 0.0
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateRun:
    """How near-duplicates of a map were looked for.

    Of `rows` images `measured` have measures; `candidates` pairs were compared; `groups` groups
    hold `images` images. Pairs at least `threshold` alike are copies. `curve` is JSON, a list of
    {threshold, precision, recall}, measured on what `basis` says.
    """

    map_id: UUID
    rows: int
    measured: int
    candidates: int
    groups: int
    images: int
    threshold: float
    basis: str
    curve: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """Near-duplicates that hang together; number 0 is the largest group.

    `group_key` stays the same when a later map finds the group again; `digest` changes with the
    members. `least` is how alike the least alike pair is that holds the group together. `images`
    are the first few members, the representative first; `first` is the row of it among all members.
    """

    map_id: UUID
    number: int
    group_key: UUID
    digest: str
    size: int
    listings: int
    least: float
    first: int
    images: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateMember:
    """One image of a group, place 0 is the representative.

    Any other is `tied` to a member before it: `alike` is their correlation after alignment, `bits`
    the distance of their hashes, `cosine` that of their features (0 where they were not
    neighbours).
    """

    number: int
    place: int
    image_id: UUID
    listing_id: str
    tied: UUID | None = None
    alike: float = 1.0
    bits: int = 0
    cosine: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A durable act of an analyst; versions from 1.

    `subject`: `cluster:<key>`, `image:<id>` or `duplicates:<group key>`.
    """

    subject: str
    version: int
    kind: str
    value: str
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that an engine claims. `state`: queued, running, done, failed, cancelled."""

    job_id: UUID
    kind: str
    parameters: str
    state: str
    step: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    message: str = ""
    error: str = ""
    owner: UUID | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry of the change log, written when what it tells of is durable.

    `kind`: image_added, image_deleted and feature_added name an image of the listing;
    listing_changed (also: deleted) and stock name the listing alone.
    """

    at: datetime
    change_id: UUID
    kind: str
    listing_id: str
    image_id: UUID | None = None
