"""Routes of the REST API about decisions: merge, split, labels, history, export, undo."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from analytics.learning.propagation import K_MAX
from analytics.maps.regions import Selection
from cql.errors import InputError
from dashboard import exports, reference
from dashboard.acts import (
    DoneView,
    HistoryView,
    ImageLabelView,
    LabelView,
    MergeView,
    SplitView,
    SpreadView,
)
from dashboard.bodies import (
    ChosenBody,
    ImageLabelBody,
    KeysBody,
    LabelBody,
    Limit,
    MergeBody,
    SplitBody,
    SpreadBody,
    UndoBody,
)
from dashboard.services import Services
from dashboard.views import DecisionView


def mount(router: APIRouter, services: Services) -> None:
    """Add the routes to the API."""
    _clusters(router, services)
    _labels(router, services)
    _history(router, services)


def _clusters(router: APIRouter, services: Services) -> None:
    @router.post("/clusters/merge/preview", tags=["clusters"])
    def merge_preview(body: KeysBody) -> MergeView:
        """What clusters would be as one, and the versions that a merge expects."""
        return services.decisions.merge_preview(body.keys)

    @router.post("/clusters/merge", tags=["clusters"])
    def merge(body: MergeBody) -> DoneView:
        """Make clusters one; 409 when somebody decided about one of them meanwhile."""
        return services.decisions.merge(
            body.keys,
            author=body.author,
            versions=body.versions,
            name=body.name,
            name_version=body.name_version,
            state=body.state,
            reason=body.reason,
        )

    @router.post("/clusters/split/preview", tags=["clusters"])
    def split_preview(body: ChosenBody) -> SplitView:
        """What splitting images off their cluster would do, and the versions that it expects."""
        return services.decisions.split_preview(**body.chosen())

    @router.post("/clusters/split", tags=["clusters"])
    def split(body: SplitBody) -> DoneView:
        """Make images of a cluster one of their own; 409 when somebody split it meanwhile."""
        return services.decisions.split(
            **body.chosen(),
            name=body.name,
            author=body.author,
            versions=body.versions,
            reason=body.reason,
        )


def _labels(router: APIRouter, services: Services) -> None:
    @router.get("/labels", tags=["labels"])
    def labels() -> tuple[LabelView, ...]:
        """Labels in force with their counts, the most frequent first."""
        return services.decisions.labels()

    @router.post("/labels", tags=["labels"])
    def label(body: LabelBody) -> DoneView:
        """Label a selection or images, at most 10,000; what others decided since is told."""
        images = list(body.image_ids)
        if body.selection is not None:
            selection = Selection.from_json(body.selection.model_dump())
            images += services.decisions.selected(selection, body.map_id)
        elif not images:
            raise InputError("a selection or image_ids must say what is labelled, both are empty")
        return services.decisions.label(
            images, body.label, author=body.author, reason=body.reason, since=body.since
        )

    @router.get("/labels/spread", tags=["labels"])
    def spread_preview(
        label: Annotated[str, Query(max_length=200)],
        k: Annotated[int, Query(ge=1, le=K_MAX)] = 60,
    ) -> SpreadView:
        """The unlabelled images nearest to those of a label, over the whole collection."""
        return services.decisions.spread_preview(label, k)

    @router.post("/labels/spread", tags=["labels"])
    def spread(body: SpreadBody) -> DoneView:
        """Label images of a preview, as one batch."""
        return services.decisions.spread(
            body.label, body.image_ids, k=body.k, author=body.author, since=body.since
        )

    @router.get("/images/{image_id}/label", tags=["labels"])
    def image_label(image_id: UUID) -> ImageLabelView:
        """The label of one image."""
        return services.decisions.labels_of([image_id])[image_id]

    @router.put("/images/{image_id}/label", tags=["labels"])
    def set_label(image_id: UUID, body: ImageLabelBody) -> ImageLabelView:
        """Label one image; 409 when somebody labelled it meanwhile."""
        return services.decisions.set_label(
            image_id,
            body.label,
            author=body.author,
            expected_version=body.expected_version,
            reason=body.reason,
        )


def _history(router: APIRouter, services: Services) -> None:
    @router.get("/decisions", tags=["decisions"])
    def decisions(
        limit: Limit = 60,
        kind: Annotated[str, Query(max_length=40, description="Only acts of this kind.")] = "",
        before: Annotated[
            datetime | None, Query(description="`next_before` of the page before.")
        ] = None,
        subject: Annotated[
            str, Query(max_length=120, description="All versions of one subject instead.")
        ] = "",
    ) -> HistoryView:
        """Acts of analysts, newest first; what was made at once is one act."""
        return services.history.page(limit=limit, kind=kind, before=before, subject=subject)

    @router.get(
        "/decisions/export",
        tags=["decisions"],
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in exports.TYPES.values()}}},
    )
    def export(
        format: Annotated[str, Query(description="csv, parquet or coco")] = "csv",  # noqa: A002
        history: Annotated[bool, Query(description="The whole ledger, with all versions.")] = False,
    ) -> Any:
        """What is in force for every image as a file, or the whole ledger."""
        name = exports.file_name(format, history=history)
        return StreamingResponse(
            services.export(format, history=history, version=reference.version()),
            media_type=exports.TYPES[format],
            headers={
                "content-disposition": f'attachment; filename="{name}"',
                "cache-control": "no-store",
            },
        )

    @router.post("/decisions/undo", tags=["decisions"])
    def undo(body: UndoBody) -> DecisionView:
        """Bring the value before the newest decision back, or those before a batch."""
        return services.undo(
            body.subject, author=body.author, expected_version=body.expected_version
        )
