"""Routes of the REST API about what is learned: classes of all images, concepts taught by click."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from dashboard.bodies import ConceptBody, ExamplesBody, Limit, TrainBody
from dashboard.learned import (
    ClassesView,
    ConceptView,
    GuessPage,
    PredictionView,
    SuggestedView,
    TaughtView,
)
from dashboard.services import Services
from dashboard.teaching import SHOWN_MAX
from dashboard.views import JobView

Version = Annotated[int, Query(ge=1, description="The version that the caller saw.")]


def mount(router: APIRouter, services: Services) -> None:
    """Add the routes to the API."""
    _classes(router, services)
    _concepts(router, services)


def _classes(router: APIRouter, services: Services) -> None:
    @router.get("/classes", tags=["classes"])
    def classes() -> ClassesView:
        """Labelled and predicted images of each class, held-out accuracy and calibration."""
        return services.classes.classes()

    @router.post("/classes/train", tags=["classes"], status_code=202)
    def train(body: TrainBody) -> JobView:
        """Queue a training on the labels in force; see its job."""
        return services.classes.train(seed=body.seed)

    @router.get("/classes/images", tags=["classes"])
    def images(
        name: Annotated[
            str, Query(max_length=200, description="A class; without it, the least sure of all.")
        ] = "",
        limit: Limit = 60,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> GuessPage:
        """Images ranked over all rows: the least sure first, or the surest of a class first."""
        return services.classes.guesses(name, limit=limit, offset=offset)

    @router.get("/images/{image_id}/prediction", tags=["classes"])
    def prediction(image_id: UUID) -> PredictionView:
        """Class and confidence of one image, and the labels that concepts propose for it."""
        return services.classes.prediction(image_id)


def _concepts(router: APIRouter, services: Services) -> None:
    @router.get("/concepts", tags=["concepts"])
    def concepts() -> tuple[ConceptView, ...]:
        """Saved concepts, by name."""
        return services.teaching.concepts()

    @router.post("/concepts/rank", tags=["concepts"])
    def rank(
        body: ExamplesBody,
        limit: Annotated[int, Query(ge=1, le=SHOWN_MAX, description="Of each list.")] = 60,
    ) -> TaughtView:
        """Rank the whole collection by examples: the best images, and the most unsure."""
        return services.teaching.rank(body.positives, body.negatives, limit=limit, seed=body.seed)

    # Before the route of a concept, whose name may have slashes in it and would take this too.
    @router.get("/concepts/{name:path}/images", tags=["concepts"])
    def suggested(name: str, limit: Limit = 60) -> tuple[SuggestedView, ...]:
        """Images that came after the concept and that it labelled, newest first: proposals."""
        return services.teaching.suggested(name, limit=limit)

    @router.get("/concepts/{name:path}", tags=["concepts"])
    def concept(name: str) -> ConceptView:
        """One saved concept."""
        return services.teaching.concept(name)

    @router.put("/concepts/{name:path}", tags=["concepts"])
    def save(name: str, body: ConceptBody) -> ConceptView:
        """Save a concept or its next version; 409 when somebody saved it meanwhile."""
        return services.teaching.save(
            name,
            body.positives,
            body.negatives,
            author=body.author,
            expected_version=body.expected_version,
            seed=body.seed,
        )

    @router.delete("/concepts/{name:path}", tags=["concepts"], status_code=204)
    def remove(
        name: str,
        expected_version: Version,
        author: Annotated[str, Query(min_length=1, max_length=80)] = "analyst",
    ) -> Response:
        """Take a concept back: it labels nothing any more. 409 when somebody saved it meanwhile."""
        services.teaching.remove(name, author=author, expected_version=expected_version)
        return Response(status_code=204)
