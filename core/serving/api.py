"""HTTP routes under /api: uploads, thumbnails, image lists, maps; pages and programs use the same.

Images reach the browser from here, by URL, freshly encoded: nothing of the file's own metadata, and
never a byte that a browser might take for a page.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Body, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import recipe as recipes
from core.data import dataset as datasets
from core.data import images
from core.errors import HeadstartError, NotFound
from core.evaluation import mistakes as mistaken
from core.runs import run as runs
from core.runs import scored, versus
from core.serving import listing, packing, uploads
from core.settings import settings
from core.storage import write_bytes

THUMBNAIL = 192
PREVIEWS = 12
LARGE = 1024
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
NOT_KEPT = {"Cache-Control": "private, no-store"}
CLOSED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

api = FastAPI(title="Headstart", docs_url=None, redoc_url=None)
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=500)]
Revision = Annotated[int | None, Query(ge=1)]
Names = Annotated[list[str], Body(max_length=500)]


@api.exception_handler(HeadstartError)
async def refuse(request: Request, error: Exception) -> JSONResponse:
    """A refusal as JSON: of which kind it is, what is wrong and what to do."""
    assert isinstance(error, HeadstartError)
    status = 404 if isinstance(error, NotFound) else 422
    said = {"kind": type(error).__name__, "what": error.what, "remedy": error.remedy}
    return JSONResponse(said, status_code=status)


@api.put("/uploads/{upload_id}")
async def upload(upload_id: str, request: Request, offset: Offset, total: Offset) -> dict[str, int]:
    """Add a piece of a file at `offset`; the answer says how many bytes have arrived.

    A piece that does not fit where the file ends now is not taken; send from `received` on.
    """
    with suppress(ClientDisconnect):  # What has arrived is kept; nobody waits for the answer.
        await uploads.receive(upload_id, offset, total, request.stream())
    return {"received": uploads.received(upload_id)}


@api.get("/uploads/{upload_id}")
def uploaded(upload_id: str) -> dict[str, int]:
    """How many bytes of an upload have arrived."""
    return {"received": uploads.received(upload_id)}


@api.delete("/uploads/{upload_id}")
def discard(upload_id: str) -> dict[str, int]:
    """Forget an upload."""
    uploads.discard(upload_id)
    return {"received": 0}


@api.get("/datasets/{dataset_id}/images")
def dataset_images(
    dataset_id: str,
    label: Annotated[list[str], Query()] = [],  # noqa: B006 (FastAPI copies it)
    part: str = "",
    finding: str = "",
    revision: Revision = None,
    names: bool = False,
    offset: Offset = 0,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Some images of a dataset, class by class, or of a finding, group by group.

    part: as `listing.named`'s. revision: the newest, if none is given. names: the names of all of
    them instead, null for those that are there to be compared with only.
    """
    dataset = datasets.load(dataset_id, revision)
    found = (
        listing.of_finding(dataset, finding)
        if finding
        else listing.plain(listing.named(dataset, label, part))
    )
    if names:
        return {"names": found.choosable}
    some = slice(offset, offset + limit)
    return {
        "total": sum(name is not None for name in found.choosable),
        "items": listing.items(dataset, found.names[some], found.about[some]),
        "groups": found.groups if offset == 0 else [],
    }


@api.post("/datasets/{dataset_id}/images")
def named_images(dataset_id: str, names: Names, revision: Revision = None) -> dict[str, Any]:
    """The images of these names, as far as the dataset has them."""
    return {"items": listing.items(datasets.load(dataset_id, revision), names)}


@api.get("/datasets/{dataset_id}/pack")
def download(dataset_id: str, revision: Revision = None) -> FileResponse:
    """The zip of a revision (the newest, if none is given) that a job has packed."""
    dataset = datasets.load(dataset_id, revision)
    name = f"{packing.safe(dataset.name)} {dataset.revision}.zip"
    return FileResponse(packing.packed(dataset), 200, NOT_KEPT, "application/zip", filename=name)


@api.get("/datasets/{dataset_id}/previews")
def previews(
    dataset_id: str, recipe: str, seed: Offset = 0, offset: Offset = 0, limit: Limit = 12
) -> dict[str, Any]:
    """A dozen images as training by a recipe (YAML) would see them."""
    from core.serving.preview import preview

    dataset = datasets.load(dataset_id)
    items = preview(dataset, recipes.from_yaml(recipe), PREVIEWS, seed)
    return {"total": len(items), "items": items[offset : offset + limit]}


@api.get("/datasets/{dataset_id}/thumbnails/{sha256}")
def thumbnail(dataset_id: str, sha256: str) -> Response:
    """A small JPEG of an image."""
    return picture_of(dataset_id, sha256, THUMBNAIL)


@api.get("/datasets/{dataset_id}/pictures/{sha256}")
def large_picture(dataset_id: str, sha256: str) -> Response:
    """A large JPEG of an image."""
    return picture_of(dataset_id, sha256, LARGE)


def picture_of(dataset_id: str, sha256: str, side: int) -> Response:
    """A JPEG of an image of a dataset, at most `side` pixels; small ones are kept in the cache.

    Raises: NotFound.
    """
    path = image_path(dataset_id, sha256)
    kept = settings().cache / "thumbnails" / sha256[:2] / f"{sha256}-{side}.jpg"
    if kept.exists():
        return Response(kept.read_bytes(), media_type="image/jpeg", headers=FOREVER)
    content = images.as_jpeg(images.decode(path.read_bytes(), side), side)
    if side == THUMBNAIL:
        write_bytes(kept, content)
    return Response(content, media_type="image/jpeg", headers=FOREVER)


def image_path(dataset_id: str, sha256: str) -> Path:
    """The file of an image, if the dataset has it.

    Raises: NotFound.
    """
    dataset = datasets.load(dataset_id)
    if not sha256.isalnum() or not dataset.path_of(sha256).is_file():
        raise NotFound(f"{dataset.name} has no such image.", "Reload the page.")
    return dataset.path_of(sha256)


@api.get("/runs/{run_id}/images")
def run_images(
    run_id: str,
    split: str = "test",
    true: str | None = None,
    predicted: str | None = None,
    offset: Offset = 0,
    limit: Limit = 100,
    order: Literal["sure", "loss", "pair"] = "sure",
    on: str = "",
    against: str = "",
) -> dict[str, Any]:
    """Scored images of a run: a cell of the confusion matrix, else all mistakes.

    on: the key of another dataset that it scored; "" for its own images. against: another run;
    then the test images that the run has right and that one wrong.
    """
    run = runs.load(run_id)
    images = scored.of(run, on)
    found = (
        versus.listed(run, runs.load(against), offset, limit)
        if against
        else mistaken.listed(
            images.predictions, images.data(), run.classes, split, true, predicted, offset, limit,
            order,
        )
    )  # fmt: skip
    items = [
        {**listing.pictures(images.dataset, one["sha256"]), "id": one["name"], **one}
        for one in found["items"]
    ]
    return {"total": found["total"], "items": items}


@api.get("/runs/{run_id}/maps/{kind}")
def heat_map(
    run_id: str,
    kind: str,
    image: str,
    class_name: Annotated[str, Query(alias="class")],
    method: str = "gradcam",
    layer: Annotated[int | None, Query(ge=0)] = None,
    on: str = "",
) -> Response:
    """What the network saw of an image (kind `picture`), and its map (kind `heat`): PNGs."""
    from core.evaluation import explain

    if kind not in ("picture", "heat"):
        raise HTTPException(404)
    run = runs.load(run_id)
    images = scored.of(run, on)
    digest = mistaken.digest_of(images.data(), image)
    content = image_path(images.dataset, digest).read_bytes()
    if kind == "picture":
        drawn = explain.png(explain.seen(run.model, content))
    else:
        drawn = explain.heat_png(explain.explain(run.model, content, class_name, method, layer))
    return Response(drawn, media_type="image/png", headers=NOT_KEPT)


@api.get("/runs/{run_id}/sheet")
def contact_sheet(
    run_id: str,
    class_name: Annotated[str, Query(alias="class")],
    kind: Literal["right", "wrong"] = "right",
    method: str = "gradcam",
    part: str = "test",
    on: str = "",
) -> Response:
    """The maps of up to 24 images of a class that it got right, or missed, as one PNG."""
    from core.evaluation import sheets

    run = runs.load(run_id)
    images = scored.of(run, on)
    scores = mistaken.stored(images.predictions).part(part)
    chosen = sheets.names(scores, run.classes, class_name, kind)
    drawn = sheets.sheet(run.model, images.data(), chosen, class_name, method)
    return Response(drawn, media_type="image/png", headers=NOT_KEPT)


@api.get("/runs/{run_id}/documents/{kind}")
def run_document(run_id: str, kind: str) -> Response:
    """A document of a run: its `report` (HTML), its model `card` (Markdown) or its `recipe`."""
    from core.documents.taking import DOCUMENTS, file_name

    if kind not in DOCUMENTS:
        raise HTTPException(404)
    run, wanted = runs.load(run_id), DOCUMENTS[kind]
    content = wanted.make(run).encode("utf-8", "replace")
    return attached(content, file_name(run, wanted.ending), wanted.media_type)


@api.get("/runs/{run_id}/plates/{name}.{form}")
def run_plate(run_id: str, name: str, form: str, part: str = "test", on: str = "") -> Response:
    """A figure of an evaluation as SVG or PNG, or its data as CSV.

    on: the key of another dataset that it scored; "" for its own images.
    """
    from core.documents.taking import file_name, plate
    from core.evaluation.plates import FORMS

    run = runs.load(run_id)
    content = plate(run, scored.of(run, on), part, name, form)
    return attached(content, file_name(run, f"{part} {name}.{form}"), FORMS[form].media_type)


@api.get("/runs/{run_id}/pack")
def run_pack(run_id: str) -> FileResponse:
    """A zip of the model's folder with its card and its recipe."""
    from core.documents.taking import file_name, packed

    run = runs.load(run_id)
    path, name = packed(run), file_name(run, "model.zip")
    gone = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, 200, NOT_KEPT, "application/zip", gone, filename=name)


def attached(content: bytes, name: str, media_type: str) -> Response:
    """A file to be kept, not to be opened here: in it nothing would run or be loaded."""
    headers = {
        **NOT_KEPT,
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}",
        "Content-Security-Policy": CLOSED,
    }
    return Response(content, media_type=media_type, headers=headers)


# --- the guard in front of everything --------------------------------------------------------

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


class Guard:
    """ASGI middleware over every path, Streamlit's own included.

    Answers only under the host names of `HEADSTART_HOSTS` (another web page cannot reach a local
    server by a name of its own, DNS rebinding), and takes what changes anything only from its own
    pages (no other web page can upload into it).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 403."""
        if scope["type"] not in ("http", "websocket") or allowed(scope):
            await self.app(scope, receive, with_headers(send))
        elif scope["type"] == "http":
            response = Response("Not from here.", status_code=403, media_type="text/plain")
            await response(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def allowed(scope: Scope) -> bool:
    """Whether a request comes under one of our names, and what changes anything from our pages."""
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    host = headers.get("host", "")
    names = [name.strip().lower() for name in settings().hosts.split(",")]
    if host_name(host) not in names and "*" not in names:
        return False
    # Reading our own routes, other web pages have no business either (Fetch metadata, W3C).
    if scope["path"].startswith("/api") and headers.get("sec-fetch-site") == "cross-site":
        return False
    origin = headers.get("origin", "")
    reads_only = scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS")
    return reads_only or not origin or origin.partition("://")[2] == host


def host_name(host: str) -> str:
    """A Host header without its port, IPv6 brackets kept."""
    name = host.lower()
    end = name.rfind(":")
    return name if end < 0 or name.endswith("]") else name[:end]


def with_headers(send: Send) -> Send:
    """`send`, adding headers that keep browsers from guessing types and framing our pages."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
        await send(message)

    return send_more
