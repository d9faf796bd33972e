"""The REST API, `/api/v1`: the same services as the pages, with OpenAPI and its own errors.

Errors are `{"error": rule and value seen, "fix": what to do}`: 400 for a value that breaks a rule,
404, 409 when somebody changed the same thing first (412 where the request named it by a header,
428 where it had to), 503 when a service does not answer.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any
from uuid import UUID

from fastapi import (
    APIRouter,
    FastAPI,
    Header,
    Path,
    Query,
    Request,
    Response,
)
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from cql.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from dashboard import classing, deciding, queries, reference
from dashboard.bodies import (
    ErrorBody,
    Limit,
    RenameBody,
    SelectionBody,
    SizeBody,
    StockBody,
    VerdictBody,
)
from dashboard.changes import ChangesView
from dashboard.doubles import DuplicateGroupView, DuplicatePage, GroupDetail
from dashboard.services import Services
from dashboard.sizes import LARGEST
from dashboard.stocks import condition
from dashboard.views import (
    ClusterDetail,
    ClusterView,
    CollectionView,
    ColumnView,
    FacetView,
    GroupView,
    HealthView,
    ImageView,
    JobView,
    ListingView,
    MapRow,
    MapView,
    OutlierPage,
    PhotoView,
    SelectionView,
    SizeView,
    StabilityView,
    StockView,
    VerdictView,
)

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATE = "private, no-cache"
STATUS = (
    (InputError, 400, f"see {PREFIX}/docs"),
    (NotFoundError, 404, "check the id: what it named may have been deleted"),
    (ConflictError, 409, "read it again, then decide on what is there now"),
    (UnavailableError, 503, "try again in a moment"),
)
"""Kind of error, status, and the fix where the error's own words end without one."""

MapId = Annotated[UUID | None, Query(description="A map version; without it, the live map.")]
Offset = Annotated[int, Query(ge=0, description="Rows to skip.")]


def mount(server: FastAPI, services: Services) -> None:
    """Add every route and error handler; call it before a catch-all is added."""
    router = APIRouter(
        prefix=PREFIX,
        responses={code: {"model": ErrorBody} for code in (400, 404, 409, 503)},
    )
    _collection(router, services)
    _map(router, services)
    _images(router, services)
    queries.mount(router, services)
    deciding.mount(router, services)
    classing.mount(router, services)
    _review(router, services)
    _duplicates(router, services)
    server.include_router(router)
    _documents(server, router)

    @server.api_route(
        "/api/{rest:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
    def unknown(request: Request, rest: str) -> Response:
        asked = f"{request.method} /api/{rest[:200]}"
        return _error(404, f"no route is called {asked}", f"see {PREFIX}/docs")

    _handlers(server)


def _collection(router: APIRouter, services: Services) -> None:
    @router.get("/health", tags=["collection"], responses={503: {"model": HealthView}})
    def health(response: Response) -> HealthView:
        """200 when Cassandra answers and the live snapshot is loaded, else 503 with the reasons."""
        found = services.health()
        response.status_code = 200 if found.ready else 503
        response.headers["cache-control"] = "no-store"
        return found

    @router.get("/collection", tags=["collection"])
    def collection() -> CollectionView:
        """How far the collection is, over all of it."""
        return services.collection()

    @router.get("/jobs", tags=["jobs"])
    def jobs(limit: Limit = 50) -> tuple[JobView, ...]:
        """Jobs, newest first."""
        return services.jobs(limit)

    @router.get("/jobs/{job_id}", tags=["jobs"])
    def job(job_id: UUID) -> JobView:
        """Progress of one job."""
        return services.job(job_id)

    @router.post("/jobs/{job_id}/cancel", tags=["jobs"])
    def cancel(job_id: UUID) -> JobView:
        """Ask a job to stop; a running one stops at its next step."""
        return services.cancel_job(job_id)

    @router.post("/jobs/{job_id}/again", tags=["jobs"])
    def again(job_id: UUID) -> JobView:
        """Queue a job that failed or was cancelled once more; finished steps are not repeated."""
        return services.run_again(job_id)


def _map(router: APIRouter, services: Services) -> None:
    @router.get("/map", tags=["map"])
    def version(map_id: MapId = None) -> MapView:
        """The map's version, size and quality."""
        return services.map(map_id)

    @router.get("/map/columns", tags=["map"])
    def columns(map_id: MapId = None) -> tuple[ColumnView, ...]:
        """Columns to colour and filter by."""
        return services.columns(map_id)

    @router.get("/map/rows", tags=["map"])
    def rows(
        rows: Annotated[str, Query(pattern=r"^\d{1,12}(,\d{1,12})*$", max_length=8000)],
        map_id: MapId = None,
    ) -> tuple[MapRow, ...]:
        """Image and listing of map rows, in the order asked."""
        return services.rows([int(row) for row in rows.split(",")], map_id)

    @router.get(
        "/map/tiles/{z}/{x}/{y}",
        tags=["map"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    def tile(  # noqa: PLR0917 - FastAPI passes by name
        request: Request,
        z: Annotated[int, Path(ge=0, le=30)],
        x: Annotated[int, Path(ge=0)],
        y: Annotated[int, Path(ge=0)],
        column: Annotated[str, Query(max_length=200)] = "cluster",
        map_id: MapId = None,
        placed: Annotated[int | None, Query(ge=0, description="As of `GET /map`.")] = None,
        edition: Annotated[
            str, Query(max_length=64, description="Another text: what was decided is read again.")
        ] = "",
    ) -> Response:
        """Points of one tile, little-endian: uint32 version, n, total, 0; float32 x[n], y[n]; ...

        Then uint32 row[n]; float32 value[n]. A tile of a named map may be kept for good where
        `placed` is what the map has, but for columns that decisions change.
        """
        found = services.map(map_id).map_id
        version, lasting = services.tile_version(column, found, placed, edition)
        etag = f'"{version}-{z}-{x}-{y}-{column.encode().hex()}"'
        control = IMMUTABLE if map_id and lasting else REVALIDATE
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag, "cache-control": control})
        return Response(
            services.tile(z, x, y, column, found, placed),
            media_type="application/octet-stream",
            headers={"etag": etag, "cache-control": control},
        )

    @router.post("/map/select", tags=["map"])
    def select(
        body: SelectionBody, limit: Limit = 60, offset: Offset = 0, map_id: MapId = None
    ) -> SelectionView:
        """Count exactly over all rows, and return one page of them."""
        return services.select(body.model_dump(), limit=limit, offset=offset, map_id=map_id)

    @router.post("/map/facets", tags=["map"])
    def facets(body: SelectionBody, map_id: MapId = None) -> tuple[FacetView, ...]:
        """Counts of every column over all rows."""
        return services.facets(body.model_dump(), map_id)


def _images(router: APIRouter, services: Services) -> None:
    picture: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}}}

    @router.get("/images/{image_id}", tags=["images"])
    def image(image_id: UUID) -> ImageView:
        """Everything known of one image."""
        return services.image(image_id)

    @router.get(
        "/images/{image_id}/thumbnail",
        tags=["images"],
        response_class=Response,
        responses=picture,
    )
    def thumbnail(request: Request, image_id: UUID) -> Response:
        """The small WebP; it never changes."""
        return _picture(request, services.thumbnail(image_id), IMMUTABLE)

    @router.get(
        "/images/{image_id}/photo", tags=["images"], response_class=Response, responses=picture
    )
    def photo(request: Request, image_id: UUID) -> Response:
        """The photo itself; re-encoded when no browser shows its format."""
        return _picture(request, services.photo(image_id), "private, max-age=3600")

    @router.get(
        "/uploads/{digest}",
        tags=["images"],
        response_class=Response,
        responses={200: {"content": {"image/*": {}}}},
    )
    def upload(request: Request, digest: str) -> Response:
        """A picture that a query was asked with."""
        return _picture(request, services.upload(digest), IMMUTABLE)

    # Before the route of a listing, whose id may have slashes in it and would take these too.
    _stock(router, services)

    @router.get("/listings/{listing_id:path}", tags=["images"])
    def listing(listing_id: str) -> ListingView:
        """A listing with its photos."""
        return services.listing(listing_id)


def _stock(router: APIRouter, services: Services) -> None:
    @router.get("/listings/{listing_id:path}/stock", tags=["stock"])
    def stock(listing_id: str, response: Response) -> StockView:
        """Stock of a listing now, read from Cassandra; its ETag is what a change must name."""
        found = services.stock(listing_id)
        response.headers.update({"etag": f'"{found.etag}"', "cache-control": "no-store"})
        return found

    @router.put(
        "/listings/{listing_id:path}/stock",
        tags=["stock"],
        response_model=StockView,
        responses={code: {"model": ErrorBody} for code in (412, 428)},
    )
    def set_stock(
        listing_id: str,
        body: StockBody,
        if_match: Annotated[str | None, Header(description="ETag that was read.")] = None,
        if_none_match: Annotated[
            str | None, Header(description="`*`: the listing has no stock yet.")
        ] = None,
    ) -> Response:
        """Set the stock of a listing if nobody changed it since; 412 with both etags otherwise."""
        if if_match is None and if_none_match is None:
            text = "a change of stock must say what it replaces, it has no If-Match header"
            return _error(428, text, "send the ETag that was read, or If-None-Match: * for a first")
        etag = condition(if_match, if_none_match)
        try:
            found = services.set_stock(listing_id, body.inventory, etag=etag)
        except ConflictError as error:
            refused = _error(412, str(error), "read the stock again, then decide on what is there")
            if error.found:
                refused.headers["etag"] = f'"{error.found}"'
            return refused
        return JSONResponse(
            to_json(found),
            status_code=200 if etag else 201,
            headers={"etag": f'"{found.etag}"', "cache-control": "no-store"},
        )


def _review(router: APIRouter, services: Services) -> None:
    @router.get("/clusters", tags=["clusters"])
    def clusters(map_id: MapId = None) -> tuple[ClusterView, ...]:
        """Clusters, largest first."""
        return services.clusters(map_id)

    @router.get("/clusters/groups", tags=["clusters"])
    def groups(map_id: MapId = None) -> tuple[GroupView, ...]:
        """Groups of clusters (level 1) and groups of those (level 2), the largest first."""
        return services.groups(map_id)

    @router.get("/clusters/stability", tags=["clusters"])
    def stability(map_id: MapId = None) -> StabilityView:
        """What each smallest size of a cluster gives: clusters, noise, where they break."""
        return services.stability(map_id)

    @router.get("/clusters/preview", tags=["clusters"])
    def preview(
        size: Annotated[int, Query(ge=2, le=LARGEST, description="Fewest images of a cluster.")],
        map_id: MapId = None,
    ) -> SizeView:
        """How many clusters one size gives, and the share of images in none."""
        return services.preview_size(size, map_id)

    @router.post("/clusters/size", tags=["clusters"], status_code=202)
    def choose(body: SizeBody) -> JobView:
        """Queue a job that publishes the live map with clusters of that size; the layout stays."""
        return services.choose_size(body.size)

    @router.get("/clusters/{key}", tags=["clusters"])
    def cluster(key: UUID, map_id: MapId = None) -> ClusterDetail:
        """One cluster with its attribute counts and the history of its name."""
        return services.cluster(key, map_id)

    @router.put("/clusters/{key}/name", tags=["clusters"])
    def rename(key: UUID, body: RenameBody) -> ClusterView:
        """Name a cluster; 409 when somebody named it meanwhile."""
        return services.rename_cluster(
            key,
            body.name,
            author=body.author,
            expected_version=body.expected_version,
            reason=body.reason,
        )

    @router.get("/outliers", tags=["outliers"])
    def outliers(
        limit: Limit = 60,
        offset: Offset = 0,
        verdict: Annotated[str, Query(description="all, undecided, outlier or fine")] = "all",
        sort: Annotated[str, Query(description="all, photo, category or rare")] = "all",
        map_id: MapId = None,
    ) -> OutlierPage:
        """The ranking, strangest first."""
        return services.outliers(
            limit=limit, offset=offset, verdict=verdict, sort=sort, map_id=map_id
        )

    @router.get("/changes", tags=["changes"])
    def changes(
        before: Annotated[
            UUID | None, Query(alias="from", description="The earlier map; else the one before it.")
        ] = None,
        after: Annotated[
            UUID | None, Query(alias="to", description="The later map; without it, the live map.")
        ] = None,
        limit: Limit = 60,
    ) -> ChangesView:
        """What changed between two maps: clusters, drift and the first `limit` new outliers."""
        found = services.changes(before, after, limit=limit)
        if found is None:
            raise NotFoundError(
                "two maps are needed to compare, there is one: analyse the collection again"
            )
        return found

    @router.put("/outliers/{image_id}/verdict", tags=["outliers"])
    def verdict(image_id: UUID, body: VerdictBody) -> VerdictView:
        """Judge an image; 409 when somebody judged it meanwhile."""
        return services.set_verdict(
            image_id,
            body.verdict,
            author=body.author,
            expected_version=body.expected_version,
            reason=body.reason,
        )


def _duplicates(router: APIRouter, services: Services) -> None:
    @router.get("/duplicates", tags=["duplicates"])
    def duplicates(
        limit: Limit = 40,
        offset: Offset = 0,
        verdict: Annotated[
            str, Query(description="all, undecided, duplicate, distinct or changed")
        ] = "all",
        map_id: MapId = None,
    ) -> DuplicatePage:
        """Groups of near-duplicates, the largest first, and how they were found."""
        return services.duplicates(limit=limit, offset=offset, verdict=verdict, map_id=map_id)

    @router.get("/duplicates/{key}", tags=["duplicates"])
    def duplicate_group(
        key: UUID, limit: Limit = 100, offset: Offset = 0, map_id: MapId = None
    ) -> GroupDetail:
        """One group with a page of its members and what ties each to another."""
        return services.duplicate_group(key, limit=limit, offset=offset, map_id=map_id)

    @router.put("/duplicates/{key}/verdict", tags=["duplicates"])
    def decide_duplicates(key: UUID, body: VerdictBody) -> DuplicateGroupView:
        """Decide on a group: `duplicate` or `distinct`; 409 when somebody decided meanwhile."""
        return services.decide_duplicates(
            key,
            body.verdict,
            author=body.author,
            expected_version=body.expected_version,
            reason=body.reason,
        )


def _documents(server: FastAPI, router: APIRouter) -> None:
    def schema() -> dict[str, Any]:
        return get_openapi(
            title="Sightline",
            version=reference.version(),
            description="Explore, search and review an image collection.",
            routes=router.routes,
        )

    @server.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    def openapi() -> JSONResponse:
        return JSONResponse(schema())

    @server.get(f"{PREFIX}/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(schema()))


def _handlers(server: FastAPI) -> None:
    @server.exception_handler(SightlineError)
    async def expected(_request: Request, error: SightlineError) -> Response:
        status, fix = next(
            ((code, fix) for kind, code, fix in STATUS if isinstance(error, kind)),
            (500, "see the log of the web worker"),
        )
        text = str(error)
        return _error(status, text, text.rpartition(": ")[2] if ": " in text else fix)

    @server.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        seen = str(first.get("input"))[:80]
        return _error(400, f"{where}: {first['msg']}, got {seen!r}", f"see {PREFIX}/docs")

    @server.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        response = _error(error.status_code, str(error.detail), f"see {PREFIX}/docs")
        response.headers.update(error.headers or {})
        return response

    @server.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _error(500, "the server failed on this request", "see the log of the web worker")


def _error(status: int, error: str, fix: str) -> Response:
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = "2"
    body = ErrorBody(error=error, fix=fix).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)


def _picture(request: Request, photo: PhotoView, control: str) -> Response:
    headers = {"etag": f'"{photo.etag}"', "cache-control": control}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    # A picture can carry script (an SVG would); none of these types can, and nothing may guess.
    headers["content-security-policy"] = "default-src 'none'; sandbox"
    return Response(photo.data, media_type=photo.media_type, headers=headers)


def to_json(view: Any) -> Any:
    """A view as plain JSON values, for the command line."""
    from fastapi.encoders import jsonable_encoder

    return jsonable_encoder(dataclasses.asdict(view) if dataclasses.is_dataclass(view) else view)  # type: ignore[arg-type]
