"""What pages show and the API serialises: frozen, plain values, one type a user action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """The model whose vectors are searched and mapped."""

    model_id: str
    name: str
    architecture: str
    weights_sha256: str
    transform: str
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    """The live snapshot: `rows` vectors of `listings` listings, as Cassandra was at `watermark`."""

    snapshot_id: UUID
    model_id: str
    rows: int
    listings: int
    dim: int
    shards: int
    watermark: datetime
    hosts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """A map version: `rows_scored` of `rows` images have place, cluster and outlier score.

    `placed` more were placed on it since it was made.
    """

    map_id: UUID
    model_id: str
    snapshot_id: UUID
    rows: int
    rows_scored: int
    clusters: int
    noise: int
    seed: int
    quality: Mapping[str, float]
    created_at: datetime
    live: bool
    placed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionView:
    """How far the collection is: every count is over all of it.

    `state` is `empty` (nothing ingested), `working` (no map yet), `ready` or `stale` (photos were
    ingested after the live snapshot's watermark). `files_failed` files have a recorded reason.
    """

    state: str
    files_ready: int
    files_failed: int
    sources: tuple[str, ...]
    model: ModelView | None
    snapshot: SnapshotView | None
    map: MapView | None
    pending: int
    running_jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnView:
    """A column to colour and filter by.

    `kind` is `category` (code i in a tile means `keys[i]`, which a filter names, and is shown as
    `labels[i]`, renames included) or `number` (then `low` and `high` bound it; on the scale `date`
    they are days since 1970-01-01). `decided`: decisions and trainings change it, also its keys.
    """

    name: str
    label: str
    kind: str
    keys: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    scale: str = "linear"
    decided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One point of the map, to show a hover or a tile of the gallery. `title` is the listing's.

    The place (world coordinates) and the cluster's name are known where rows were asked for.
    """

    row: int
    image_id: UUID
    listing_id: str
    title: str = ""
    x: float | None = None
    y: float | None = None
    cluster_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionView:
    """Exactly `count` of `total` rows match; `rows` is the page at `offset`.

    The next page is at `next_offset`, None after the last.
    """

    map_id: UUID
    count: int
    total: int
    rows: tuple[MapRow, ...]
    offset: int
    next_offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """`count` of the map's `total` rows with this value pass."""

    value: str
    label: str
    count: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetView:
    """Counts of one column over all rows of the map that pass the selection's other conditions.

    A `category` column has one entry a value, `value` being what a filter names. A `number` column
    has equal bins: entry i counts `edges[i]` to `edges[i + 1]` (on the scale `date` they are days
    since 1970-01-01). `missing` rows have no value.
    """

    name: str
    label: str
    kind: str
    values: tuple[FacetValue, ...]
    edges: tuple[float, ...] = ()
    missing: int = 0
    scale: str = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """What an analyst said of an image: `outlier`, `fine`, or empty when nobody did (version 0)."""

    image_id: UUID
    verdict: str = ""
    version: int = 0
    author: str = ""
    reason: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareView:
    """How much of an image belongs to a cluster: a share in [0, 1]."""

    key: UUID
    name: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """Everything known of one image. Map figures are None when the image is not on the live map.

    `outlier_score` lies in [0, 1]; `outlier_reason`, `outlier_kind` (photo, category, rare or
    empty), `glosh`, `lof` and `evidence` (tail probability by name) are known for ranked images.
    `looks` is what was measured of the picture: empty where nothing was.
    `label` is the one that an analyst gave it, "" for none. `shares` are the clusters that it
    belongs to most, falling; what is left belongs to none. `late`: it was placed on the map since
    that was made.
    """

    image_id: UUID
    listing_id: str
    title: str
    attributes: Mapping[str, str]
    width: int
    height: int
    format: str
    bytes: int
    position: int
    uri: str
    added_at: datetime | None
    row: int | None
    x: float | None
    y: float | None
    cluster_key: UUID | None
    cluster_name: str
    membership: float | None
    outlier_score: float | None
    knn_distance: float | None
    glosh: float | None
    outlier_reason: str
    verdict: VerdictView
    label: str = ""
    shares: tuple[ShareView, ...] = ()
    outlier_kind: str = ""
    lof: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    looks: Mapping[str, float] = field(default_factory=dict)
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoView:
    """Bytes that a browser can show. `etag` changes when the bytes do."""

    data: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingImage:
    """One photo of a listing."""

    image_id: UUID
    position: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingView:
    """A listing with its photos by position."""

    listing_id: str
    title: str
    attributes: Mapping[str, str]
    images: tuple[ListingImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockView:
    """Stock of a listing as it is now; `etag` is what the next change of it must name."""

    listing_id: str
    inventory: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """A cluster. `automatic` is the name it was given by the analysis; `name` is what to show.

    `version` is the rename version to pass as `expected_version` (0: never renamed). `merged`:
    keys of the clusters that were merged into it; `origin`: the cluster it was split off from.
    `group` is the number of its `GroupView` at level 1, None where nothing is grouped.
    """

    key: UUID
    cluster: int
    name: str
    automatic: str
    renamed: bool
    version: int
    size: int
    listings: int
    share: float
    exemplars: tuple[UUID, ...]
    x: float
    y: float
    merged: tuple[UUID, ...] = ()
    origin: UUID | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """Clusters that lie close to one another (level 1), or groups that do (level 2).

    `parent` is the number of the group of the next level that holds it, None where there is none.
    """

    key: UUID
    level: int
    number: int
    name: str
    size: int
    listings: int
    clusters: int
    share: float
    parent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeView:
    """What a smallest cluster of `size` images gives: clusters, and the share in none."""

    map_id: UUID
    size: int
    clusters: int
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityView:
    """What each of `sizes` gives, ascending; `size` is the one now, `automatic` what suits the map.

    `clusters` are counts; `noise` is the share of images in none; `mass` the excess of mass of the
    clusters per image; `same` the adjusted Rand index between a size and the next larger one: where
    it falls, clusters break up or merge.
    """

    map_id: UUID
    size: int
    automatic: int
    sizes: tuple[int, ...]
    clusters: tuple[int, ...]
    noise: tuple[float, ...]
    mass: tuple[float, ...]
    same: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """One entry of the ledger, newest first where listed."""

    subject: str
    version: int
    kind: str
    value: str
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDetail:
    """A cluster with the history of its name and its own attribute counts."""

    cluster: ClusterView
    decisions: tuple[DecisionView, ...]
    facets: tuple[FacetView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierView:
    """A ranked outlier: rank from 1, score in [0, 1], the reason in words, the verdict.

    `kind` guesses the sort: photo (a bad one), category (its attributes say another than its
    neighbours), rare, or empty; `evidence` are tail probabilities by name.
    """

    rank: int
    score: float
    image_id: UUID
    listing_id: str
    title: str
    cluster_name: str
    knn_distance: float
    glosh: float
    reason: str
    verdict: VerdictView
    kind: str = ""
    lof: float = 0.0
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierPage:
    """A page of the ranking; `offset` of the next call is `next_offset` (None: the end).

    `ranked` rows of `total` were ranked; `judged` of them have a verdict.
    """

    map_id: UUID
    outliers: tuple[OutlierView, ...]
    offset: int
    next_offset: int | None
    ranked: int
    total: int
    judged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStepView:
    """A step of a job: running, done, kept (done by an earlier run), failed, cancelled, stopped."""

    step: str
    state: str
    seconds: float
    rows: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job; `share` is done / total of its present step in [0, 1].

    `left_s`: seconds left of the whole job by earlier jobs of its kind (`whole_left`), else of the
    present step at its present rate; None while that rests on too little. `worked_s`, `cpu_s`,
    `peak_bytes`: what it cost so far, all tries together, the engine and the processes below it.
    `again`: it can be run again.
    """

    job_id: UUID
    kind: str
    state: str
    step: str
    done: int
    total: int
    rate: float
    share: float
    left_s: float | None
    message: str
    error: str
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    whole_left: bool = False
    worked_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    again: bool = False
    steps: tuple[JobStepView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition; `fix` says what to do when it fails. Readiness needs the `required` ones."""

    name: str
    ok: bool
    required: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """Ready only when Cassandra answers CQL and live hosts hold the whole live snapshot."""

    ready: bool
    checks: tuple[Check, ...]
    version: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
