"""Rows of the store and of the map table as views; no reads, no decisions of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from analytics import jobs
from analytics.decisions.decided import DECIDED
from analytics.decisions.effective import Effective
from analytics.forecast import left_of_step
from analytics.maps.regions import iso
from analytics.search import Request, Result
from analytics.tiles import Column, Facet, Row
from cql.records import (
    Cluster,
    Group,
    Image,
    Job,
    Listing,
    MapVersion,
    Measures,
    Model,
    Outlier,
    Query,
    Snapshot,
)
from dashboard.answers import AskedView, HitView, QueryView, SearchView
from dashboard.views import (
    Check,
    ClusterView,
    ColumnView,
    FacetValue,
    FacetView,
    GroupView,
    ImageView,
    JobStepView,
    JobView,
    ListingImage,
    ListingView,
    MapView,
    ModelView,
    OutlierView,
    ShareView,
    SnapshotView,
    VerdictView,
)

LOOKS = ("sharpness", "brightness", "contrast", "blank", "colour")
"""Measures of an image that are shown."""

NOISE = "No cluster"
"""Label of the points that the clustering left out."""


def model_view(model: Model) -> ModelView:
    """The model's row."""
    return ModelView(
        model_id=model.model_id,
        name=model.name,
        architecture=model.architecture,
        weights_sha256=model.weights_sha256,
        transform=model.transform,
        dim=model.dim,
    )


def snapshot_view(snapshot: Snapshot, hosts: int) -> SnapshotView:
    """The snapshot's row and how many live hosts serve it."""
    return SnapshotView(
        snapshot_id=snapshot.snapshot_id,
        model_id=snapshot.model_id,
        rows=snapshot.rows,
        listings=snapshot.listings,
        dim=snapshot.dim,
        shards=snapshot.shards,
        watermark=snapshot.watermark,
        hosts=hosts,
    )


def map_view(version: MapVersion, *, live: bool, placed: int = 0) -> MapView:
    """The map's row, and how many images were placed on it since."""
    return MapView(
        map_id=version.map_id,
        model_id=version.model_id,
        snapshot_id=version.snapshot_id,
        rows=version.rows,
        rows_scored=version.rows_scored,
        clusters=version.clusters,
        noise=version.noise,
        seed=version.seed,
        quality=dict(version.quality),
        created_at=version.created_at,
        live=live,
        placed=placed,
    )


def column_view(column: Column, names: Mapping[int, str]) -> ColumnView:
    """A column; `names` (by cluster number) replace the labels of the cluster column."""
    number = column.kind == "number"
    return ColumnView(
        name=column.name,
        label=column.label,
        kind=column.kind,
        keys=column.keys,
        labels=_labels(column.keys, column.categories, names),
        low=column.low if number else None,
        high=column.high if number else None,
        scale=column.scale,
        decided=column.name in DECIDED,
    )


def edition(columns: Iterable[ColumnView], said: str) -> str:
    """A text that changes when decided columns mean something else.

    `said` changes when images were predicted anew (`View.said`). A label more of a class that is
    there changes nothing.
    """
    shown = [(each.name, each.keys, each.labels) for each in columns if each.decided]
    return blake2b(json.dumps([shown, said]).encode(), digest_size=12).hexdigest()


def facet_view(facet: Facet, totals: Mapping[str, int], names: Mapping[int, str]) -> FacetView:
    """A facet with the counts of the whole map beside those of the selection."""
    number = facet.kind == "number"
    keys = tuple(str(i) for i in range(len(facet.counts))) if number else facet.keys
    if number:
        write = iso if facet.scale == "date" else "{:.3g}".format
        labels = tuple(
            f"{write(low)} to {write(high)}"
            for low, high in zip(facet.edges, facet.edges[1:], strict=False)
        )
    else:
        labels = _labels(facet.keys, facet.categories, names)
    return FacetView(
        name=facet.name,
        label=facet.label,
        kind=facet.kind,
        values=tuple(
            FacetValue(value=key, label=label, count=count, total=max(count, totals.get(key, 0)))
            for key, label, count in zip(keys, labels, facet.counts, strict=True)
            if key  # a cluster that was merged into another has no key of its own
        ),
        edges=facet.edges,
        missing=facet.missing,
        scale=facet.scale,
    )


def image_view(  # noqa: PLR0917 - one argument a source
    image: Image,
    listing: Listing,
    row: Row | None,
    cluster: ClusterView | None,
    ranked: Outlier | None,
    verdict: VerdictView,
    shares: tuple[ShareView, ...] = (),
    measures: Measures | None = None,
) -> ImageView:
    """An image with its listing and its place on the live map, if it has one."""
    return ImageView(
        image_id=image.image_id,
        listing_id=image.listing_id,
        title=listing.title,
        attributes=dict(listing.attributes),
        width=image.width,
        height=image.height,
        format=image.format,
        bytes=image.bytes,
        position=image.position,
        uri=image.uri,
        added_at=image.added_at,
        row=row.row if row else None,
        x=row.x if row else None,
        y=row.y if row else None,
        cluster_key=cluster.key if cluster else None,
        cluster_name=cluster.name if cluster else NOISE if row else "",
        membership=row.membership if row else None,
        outlier_score=row.outlier_score if row else None,
        knn_distance=row.knn_distance if row else None,
        glosh=ranked.glosh if ranked else None,
        outlier_reason=ranked.reason if ranked else "",
        verdict=verdict,
        shares=shares,
        outlier_kind=ranked.kind if ranked else "",
        lof=ranked.lof if ranked and ranked.lof else None,
        evidence=json.loads(ranked.evidence) if ranked and ranked.evidence else {},
        looks={name: getattr(measures, name) for name in LOOKS} if measures else {},
        late=row is not None and row.late,
    )


def listing_view(listing: Listing, images: Sequence[Image]) -> ListingView:
    """A listing with its photos, in the order given."""
    return ListingView(
        listing_id=listing.listing_id,
        title=listing.title,
        attributes=dict(listing.attributes),
        images=tuple(
            ListingImage(
                image_id=image.image_id,
                position=image.position,
                width=image.width,
                height=image.height,
            )
            for image in images
        ),
    )


def outlier_view(
    outlier: Outlier, rank: int, *, title: str, cluster_name: str, verdict: VerdictView
) -> OutlierView:
    """A row of the ranking, with the verdict in force."""
    return OutlierView(
        rank=rank,
        score=outlier.score,
        image_id=outlier.image_id,
        listing_id=outlier.listing_id,
        title=title,
        cluster_name=cluster_name,
        knn_distance=outlier.knn_distance,
        glosh=outlier.glosh,
        reason=outlier.reason,
        verdict=verdict,
        kind=outlier.kind,
        lof=outlier.lof,
        evidence=json.loads(outlier.evidence) if outlier.evidence else {},
    )


def cluster_view(found: Effective, rename: tuple[str, int] | None, total: int) -> ClusterView:
    """A cluster; a rename in force wins over the automatic name."""
    name, version = rename or ("", 0)
    cluster = found.cluster
    return ClusterView(
        key=cluster.cluster_key,
        cluster=cluster.cluster,
        name=name or cluster.name,
        automatic=cluster.name,
        renamed=bool(name),
        version=version,
        size=cluster.size,
        listings=cluster.listings,
        share=cluster.size / total if total else 0.0,
        exemplars=tuple(cluster.exemplars),
        x=cluster.x,
        y=cluster.y,
        merged=tuple(unit for unit in found.units if unit != cluster.cluster_key),
        origin=found.origin,
        group=cluster.family,
    )


def group_view(group: Group, total: int) -> GroupView:
    """A group of clusters; `total` images are on the map."""
    return GroupView(
        key=group.group_key,
        level=group.level,
        number=group.number,
        name=group.name,
        size=group.size,
        listings=group.listings,
        clusters=group.clusters,
        share=group.size / total if total else 0.0,
        parent=group.parent,
    )


def share_views(
    row: Row, clusters: Sequence[ClusterView], made: Sequence[Cluster]
) -> tuple[ShareView, ...]:
    """The clusters that a point belongs to most, as decided and by their names now.

    `made` are the clusters as the analysis left them, which shares are of: that of a cluster goes
    to the one that holds it now, so shares of clusters that were merged add up.
    """
    holder = {key: cluster for cluster in clusters for key in (cluster.key, *cluster.merged)}
    now = {each.cluster: holder.get(each.cluster_key) for each in made}
    shares: dict[UUID, float] = {}
    names: dict[UUID, str] = {}
    for number, share in zip(row.soft_clusters, row.soft_shares, strict=True):
        found = now.get(number)
        if found is not None:
            names[found.key] = found.name
            shares[found.key] = shares.get(found.key, 0.0) + share
    return tuple(
        ShareView(key=key, name=names[key], share=shares[key])
        for key in sorted(shares, key=lambda key: -shares[key])
    )


def query_view(query: Query) -> QueryView:
    """A line of the history."""
    return QueryView(
        query_id=query.query_id,
        name=query.name,
        state=query.state,
        hits=query.hits,
        seconds=query.seconds,
        created_at=query.created_at,
        **_asked(query.spec),
    )


def search_view(
    query: Query,
    hits: tuple[HitView, ...],
    *,
    current: bool,
    next_after: str | None,
    result: Result | None,
) -> SearchView:
    """A query as it was asked, with a page of its hits; `result` where it was just answered."""
    return SearchView(
        query_id=query.query_id,
        name=query.name,
        state=query.state,
        exact=query.rows_scanned == query.rows if result is None else result.exact,
        rows=query.rows,
        rows_scanned=query.rows_scanned,
        scanned=result.scanned if result else None,
        rescored=result.rescored if result else None,
        followed_at=result.followed_at if result else None,
        lag_s=result.lag_s if result else None,
        behind=result.behind if result else None,
        seconds=query.seconds,
        snapshot_id=query.snapshot_id,
        model_id=query.model_id,
        current=current,
        created_at=query.created_at,
        hits_total=query.hits,
        hits=hits,
        next_after=next_after,
        **_asked(query.spec),
    )


def asked_view(request: Request) -> AskedView:
    """What a request asks."""
    return AskedView(**_asked(request.spec()))


def _asked(text: str) -> dict[str, Any]:
    """The fields of `AskedView`, from the spec of a query."""
    spec: dict[str, Any] = json.loads(text)
    source = str(spec.get("source") or "")
    uploads = source.removeprefix("upload:") if source.startswith("upload:") else ""
    return {
        "image_ids": tuple(UUID(text) for text in spec.get("image_ids", ())),
        "listing_id": spec.get("listing_id"),
        "uploads": tuple(filter(None, uploads.split(","))),
        "negatives": tuple(UUID(text) for text in spec.get("negatives", ())),
        "aggregate": spec.get("aggregate", "max"),
        "best": int(spec.get("best", 3)),
        "selection": spec.get("selection", {}),
        "map_id": UUID(spec["map_id"]) if spec.get("map_id") else None,
        "within": UUID(spec["within"]) if spec.get("within") else None,
        "in_stock": bool(spec.get("in_stock")),
        "model": spec.get("model"),
        "k": int(spec.get("k", 0)),
        "exclude": bool(spec.get("exclude", True)),
    }


def job_view(job: Job) -> JobView:
    """A job with its share done and the seconds it took or has left."""
    share = min(1.0, job.done / job.total) if job.total > 0 else 0.0
    end = job.finished_at or (datetime.now(UTC) if job.state == "running" else None)
    whole = job.left_s is not None
    left = job.left_s if whole else left_of_step(job.done, job.total, job.rate)
    found = jobs.steps(job)
    return JobView(
        job_id=job.job_id,
        kind=job.kind,
        state=job.state,
        step=job.step,
        done=job.done,
        total=job.total,
        rate=job.rate,
        share=1.0 if job.state == "done" else share,
        left_s=left if job.state == "running" else None,
        message=job.message,
        error=job.error,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        seconds=(end - job.started_at).total_seconds() if end and job.started_at else None,
        whole_left=whole,
        worked_s=job.worked_s,
        cpu_s=job.cpu_s,
        peak_bytes=job.peak_bytes,
        again=job.state in {"failed", "cancelled"},
        steps=tuple(
            JobStepView(
                step=each.step,
                state=each.state,
                seconds=each.seconds,
                rows=each.rows,
                cpu_s=each.cpu_s,
            )
            for each in found
            # The last word of a job of several steps comes under its own name.
            if each.step != job.kind or len(found) == 1
        ),
    )


def check(name: str, trouble: str, fix: str, *, good: str = "", required: bool = True) -> Check:
    """A condition that holds when there is no trouble to tell."""
    return Check(
        name=name,
        ok=not trouble,
        required=required,
        detail=trouble or good,
        fix=fix if trouble else "",
    )


def _labels(
    keys: tuple[str, ...], categories: tuple[str, ...], names: Mapping[int, str]
) -> tuple[str, ...]:
    by_key = {str(number): name for number, name in names.items()}
    return tuple(by_key.get(key, label) for key, label in zip(keys, categories, strict=True))
