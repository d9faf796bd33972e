"""Routes of the REST API about searches: asked, read page by page, named, asked again."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, UploadFile

from analytics.maps.regions import Selection
from analytics.request import BEST_MAX, K_MAX, Request
from cql.errors import InputError
from cql.results import NAME_LIMIT
from dashboard.answers import QueryView, SearchView
from dashboard.bodies import Aggregate, Limit, NameBody, SearchBody
from dashboard.services import Services
from dashboard.terms import MODEL_LIMIT
from dashboard.views import ModelView


def mount(router: APIRouter, services: Services) -> None:
    """Add the routes to the API."""

    @router.post("/search", tags=["search"])
    def search(body: SearchBody) -> SearchView:
        """The listings most like the examples, best first: the first 500, with `next_after`.

        Exact over every vector. All k hits are published; read on by `GET /queries/{query_id}`.
        """
        return services.search(body.request())

    @router.post("/search/upload", tags=["search"])
    def search_upload(
        *,
        file: Annotated[list[UploadFile], File(description="Pictures to look for, at most 16.")],
        image_ids: Annotated[
            list[UUID] | None, Form(description="Images that hits should be like, too.")
        ] = None,
        listing_id: Annotated[
            str | None, Form(description="A listing all of whose photos are examples, too.")
        ] = None,
        negatives: Annotated[
            list[UUID] | None, Form(description="Images that hits must not be like.")
        ] = None,
        aggregate: Annotated[Aggregate, Form(description="As of `POST /search`.")] = "max",
        best: Annotated[int, Form(ge=1, le=BEST_MAX)] = 3,
        selection: Annotated[
            str, Form(description="A selection as JSON: only what it takes can be found.")
        ] = "",
        map_id: Annotated[UUID | None, Form(description="The map of the selection.")] = None,
        within: Annotated[
            UUID | None, Form(description="A query: only listings that it found can be found.")
        ] = None,
        in_stock: Annotated[bool, Form(description="Only listings in stock now.")] = False,
        model: Annotated[
            str | None, Form(max_length=MODEL_LIMIT, description="As of `POST /search`.")
        ] = None,
        k: Annotated[int, Form(ge=1, le=K_MAX, description="Most listings to find.")] = 50,
        name: Annotated[
            str, Form(max_length=NAME_LIMIT, description="Without it, that of the file.")
        ] = "",
    ) -> SearchView:
        """The listings most like uploaded pictures; options as of `POST /search`."""
        request = Request(
            image_ids=tuple(image_ids or ()),
            listing_id=listing_id,
            negatives=tuple(negatives or ()),
            aggregate=aggregate,
            best=best,
            selection=Selection.from_json(_json(selection)),
            map_id=map_id,
            within=within,
            in_stock=in_stock,
            model=model,
            k=k,
            name=name,
        )
        pictures = [(each.file.read(), each.filename or "") for each in file]
        return services.search_upload(pictures, request)

    @router.get("/models", tags=["search"])
    def models() -> tuple[ModelView, ...]:
        """Models that can be searched: the default one first, then by name."""
        return services.models()

    @router.get("/queries", tags=["search"])
    def queries(limit: Limit = 50) -> tuple[QueryView, ...]:
        """Query history, newest first."""
        return services.queries(limit)

    @router.get("/queries/{query_id}", tags=["search"])
    def query(
        query_id: UUID,
        limit: Limit = 200,
        after: Annotated[
            str, Query(max_length=1000, description="`next_after` of the page before.")
        ] = "",
    ) -> SearchView:
        """A page of a published query, in the order that its table keeps: nothing is computed."""
        return services.query(query_id, limit=limit, after=after)

    @router.post("/queries/{query_id}/name", tags=["search"])
    def rename_query(query_id: UUID, body: NameBody) -> QueryView:
        """Give a query another name."""
        return services.rename_query(query_id, body.name)

    @router.post("/queries/{query_id}/run", tags=["search"])
    def run_query(query_id: UUID) -> SearchView:
        """Ask a stored query again, of what is live now; the answer is a query of its own."""
        return services.search(services.asked(query_id))


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        raise InputError(f"selection must be JSON, got {text[:80]!r}: quote its names") from None
