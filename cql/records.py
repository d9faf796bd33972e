"""Frozen row types: what the store reads and writes. Times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
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
class Patches:
    """Features of the regions of one image under one model, `side` a side, row by row.

    `codes` are int8 (side * side, dim), row by row from the upper left; a number is its code times
    `scale`, which is at least 0.
    """

    listing_id: str
    model_id: str
    image_id: UUID
    codes: bytes
    scale: float
    side: int
    dim: int
    crc32c: int


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
    """One block of a snapshot; `files` maps file name to its XXH3 sum, 32 hex digits."""

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


class Hit(NamedTuple):
    """One listing in a result: its score, and the image of it that won.

    `inventory` is what its stock row said at `stock_read_at`: None where it has no such row. Both
    are None where the search did not read stock. Fields are in the order of their columns. A tuple:
    a search makes hundreds of them.
    """

    score: float
    listing_id: str
    image_id: UUID
    inventory: int | None = None
    stock_read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapVersion:
    """A layout of a snapshot, clusters and outlier scores. `parameters` is JSON with the seed.

    `watermark`: of its snapshot, None where an older Sightline made it.
    """

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
    watermark: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBatch:
    """Images that were placed together on a map after it was made.

    `first` were placed before them. `read_to`: up to when the change log was taken in.
    """

    map_id: UUID
    number: int
    batch_id: UUID
    first: int
    rows: int
    read_to: datetime
    placed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One image on a map. `cluster` is -1 for noise; scores are percentiles where named so.

    `trust`: share of its true neighbours that are near it on the map, None where an older
    Sightline made it. `soft_clusters` are those of largest share, with `soft_shares`; `space` is
    the raw little-endian float32 of the place in the space that clusters are found in.
    """

    image_id: UUID
    listing_id: str
    x: float
    y: float
    cluster: int
    membership: float
    outlier_score: float
    knn_distance: float
    glosh: float
    trust: float | None = None
    soft_clusters: tuple[int, ...] = ()
    soft_shares: tuple[float, ...] = ()
    space: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`cluster_key` stays the same when a later map finds the same group again.

    `family` is the number of its `Group` at level 1, None where nothing is grouped.
    """

    map_id: UUID
    cluster: int
    cluster_key: UUID
    size: int
    listings: int
    name: str
    exemplars: tuple[UUID, ...]
    x: float
    y: float
    family: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Clusters that lie close in the tree (level 1), or groups that do (level 2).

    `group_key` stays the same when a later map finds the same group again; `clusters` counts them;
    `parent` is the number of the group of the next level that holds it, if there is one.
    """

    map_id: UUID
    level: int
    number: int
    group_key: UUID
    size: int
    listings: int
    clusters: int
    name: str
    parent: int | None = None


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
class Comparison:
    """What changed between a map and the map `previous`: images of both, added, removed.

    `outliers` images are outliers now and were none before.
    """

    map_id: UUID
    previous: UUID
    rows_before: int
    rows_after: int
    added: int
    removed: int
    outliers: int
    seed: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChange:
    """One cluster in both maps of a comparison; see `analytics.drift.Change`.

    `departed` images left it. `parts` is JSON: [key or null, name, images] of each.
    """

    map_id: UUID
    previous: UUID
    number: int
    kind: str
    cluster_key: UUID
    name: str
    before: int
    after: int
    joined: int
    added: int
    departed: int
    removed: int
    parts: str = "[]"
    exemplars: tuple[UUID, ...] = ()
    shift: float | None = None
    energy: float | None = None
    p: float | None = None
    q: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOutlier:
    """An image that became an outlier; `score_before` is None where it was not on that map."""

    map_id: UUID
    previous: UUID
    rank: int
    image_id: UUID
    listing_id: str
    score: float
    score_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A durable act of an analyst; versions of a subject count from 1.

    `subject` and `value` by kind (an empty value takes it back): rename `cluster:<key>`, the name;
    verdict `image:<id>`, `outlier` or `fine`; label `label:<image id>`, the text; merge
    `merge:<cluster key>`, the key of the cluster it belongs to; split `split:<cluster key>`, its
    parts as JSON; `duplicates:<group key>`. `batch_id` is shared by decisions made at once.
    """

    subject: str
    version: int
    kind: str
    value: str
    author: str
    reason: str
    at: datetime
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A line of the list of decisions by month: one decision, or all of a batch.

    Of a batch `subject` is `batch:<id>` and `version` counts the decisions that it tried.
    """

    at: datetime
    subject: str
    version: int
    kind: str
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A linear probe as it was trained: C classes, `weights` raw float32 (C, dim) of unit rows.

    `norms` and `biases` (C,) scale them, the temperature included. `counts`: images of each class
    over all of the snapshot; `measures`: held-out figures as JSON; `labels` images had one.
    """

    classifier_id: UUID
    model_id: str
    snapshot_id: UUID
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    weights: bytes
    norms: tuple[float, ...]
    biases: tuple[float, ...]
    dim: int
    penalty: float
    temperature: float
    seed: int
    labels: int
    label_version: str
    measures: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionBatch:
    """Images that a classifier gave a class together; later batches hold what came later.

    `read_to`: up to when the change log was taken in.
    """

    classifier_id: UUID
    number: int
    batch_id: UUID
    rows: int
    read_to: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A version of a concept taught by click; without `positives` it was taken back.

    The margin of v is norm (weights . v) + bias, with `weights` raw float32 (dim,) of unit norm;
    from `threshold` on a new image is labelled. `precision` and `recall` are of held-out examples
    at it.
    """

    name: str
    version: int
    model_id: str
    snapshot_id: UUID
    positives: tuple[UUID, ...] = ()
    negatives: tuple[UUID, ...] = ()
    weights: bytes = b""
    norm: float = 0.0
    bias: float = 0.0
    dim: int = 0
    threshold: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    sampled: int = 0
    seed: int = 0
    author: str = ""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A label that a concept gives an image; no decision of an analyst."""

    image_id: UUID
    listing_id: str
    name: str
    version: int
    margin: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that an engine claims. `state`: queued, running, done, failed, cancelled.

    `steps` is JSON (`analytics.jobs.steps`). `worked_s`, `cpu_s` and `peak_bytes` are what it cost
    over all tries: seconds, CPU seconds and the most memory of the engine and the processes below
    it. `left_s`: seconds left by the steps of earlier jobs of its kind, None where none tells.
    """

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
    steps: str = ""
    worked_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    left_s: float | None = None


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
