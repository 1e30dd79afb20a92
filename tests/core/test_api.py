from __future__ import annotations

import hashlib
import io
import shutil

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect

from core import recipe as recipes
from core.auditing import findings as audits
from core.auditing.findings import Finding, Findings, Group
from core.data import importing, journal
from core.data.dataset import Dataset
from core.evaluation import scores as scoring
from core.runs import run as runs
from core.settings import settings
from tests.core.conftest import Trained, sentence


@pytest.fixture
def dataset(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=4)))


# --- images ------------------------------------------------------------------------------------


def test_images_come_class_by_class_and_page_by_page(client: TestClient, dataset: Dataset):
    def page(offset: int) -> dict:
        return client.get(
            f"/api/datasets/{dataset.id}/images", params={"offset": offset, "limit": 5}
        ).json()

    pages = [page(offset) for offset in (0, 5, 10)]
    assert [one["total"] for one in pages] == [12, 12, 12]
    items = [item for one in pages for item in one["items"]]
    assert [item["id"] for item in items] == sorted(dataset.table["name"])
    assert items[0]["title"] == "ants"
    assert client.get(items[0]["src"]).status_code == 200
    assert page(12)["items"] == []


def test_images_of_chosen_classes_alone(client: TestClient, dataset: Dataset):
    answer = client.get(
        f"/api/datasets/{dataset.id}/images", params={"label": ["ants", "wasps"]}
    ).json()
    assert answer["total"] == 8
    assert {item["title"] for item in answer["items"]} == {"ants", "wasps"}


def test_names_alone_are_those_of_the_whole_list(client: TestClient, dataset: Dataset):
    address = f"/api/datasets/{dataset.id}/images"
    found = client.get(address, params={"label": "ants", "names": True, "limit": 2}).json()
    listed = client.get(address, params={"label": "ants"}).json()["items"]
    assert found == {"names": [one["id"] for one in listed]}


def test_the_groups_of_a_finding_come_with_its_first_page(client: TestClient, dataset: Dataset):
    group = Group(("ants/0.jpg", "ants/1.jpg"), "twice")
    found = Findings(dataset.id, 1, dataset.digest, (Finding("near_duplicate", (group,) * 2),))
    audits.save(dataset.folder, found)
    address = f"/api/datasets/{dataset.id}/images"
    first = client.get(address, params={"finding": "near_duplicate", "limit": 2}).json()
    assert first["total"] == 4
    assert [(one["size"], one["text"]) for one in first["groups"]] == [(2, "twice")] * 2
    rest = client.get(address, params={"finding": "near_duplicate", "offset": 2}).json()
    assert [len(rest["items"]), rest["groups"]] == [2, []]
    assert client.get(address, params={"finding": "no such kind"}).json()["items"] == []


def test_images_of_a_former_revision_are_still_there(client: TestClient, dataset: Dataset):
    journal.record(dataset.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    address = f"/api/datasets/{dataset.id}/images"
    totals = [
        client.get(address, params=parameters).json()["total"]
        for parameters in ({}, {"revision": 1}, {"part": "excluded"})
    ]
    assert totals == [11, 12, 1]
    sentence(client.get(address, params={"revision": 3}), 404)


def test_named_images_are_shown_in_that_order(client: TestClient, dataset: Dataset):
    names = ["wasps/1.jpg", "ants/0.jpg", "../../etc/passwd"]
    answer = client.post(f"/api/datasets/{dataset.id}/images", json=names)
    assert [one["id"] for one in answer.json()["items"]] == names[:2]
    too_many = client.post(f"/api/datasets/{dataset.id}/images", json=names * 200)
    assert too_many.status_code == 422


@pytest.mark.parametrize("wrong", ["limit=0", "limit=501", "offset=-1", "limit=many"])
def test_a_page_of_no_sense_is_refused(client: TestClient, dataset: Dataset, wrong: str):
    assert client.get(f"/api/datasets/{dataset.id}/images?{wrong}").status_code == 422


def with_a_secret(size: tuple[int, int]) -> bytes:
    """A photo on its side whose EXIF says where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Secret Camera"
    exif.get_ifd(0x8825)[1] = "N"
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, "JPEG", exif=exif, comment=b"hidden")
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "longest"), [("thumbnails", 192), ("pictures", 1024)])
def test_images_reach_the_browser_small_upright_and_without_their_secrets(
    client: TestClient, make_zip, photo, kind: str, longest: int
):
    content = with_a_secret((1600, 1200))
    dataset = importing.import_all(make_zip({"a/1.jpg": content, "b/2.jpg": photo(1)}))
    digest = hashlib.sha256(content).hexdigest()
    for _ in range(2):  # The second one comes from the cache.
        answer = client.get(f"/api/datasets/{dataset.id}/{kind}/{digest}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "private" in answer.headers["cache-control"]
        shown = Image.open(io.BytesIO(answer.content))
        assert (shown.format, shown.size) == ("JPEG", (longest * 3 // 4, longest))
        assert not shown.getexif()
        assert b"Secret" not in answer.content
        assert b"hidden" not in answer.content


def test_a_picture_is_shown_only_through_a_dataset_that_has_it(client, dataset, make_zip, photo):
    other = importing.import_all(make_zip({"a/1.jpg": photo(91), "b/2.jpg": photo(92)}, "o.zip"))
    digest = other.table["sha256"].iloc[0]
    assert client.get(f"/api/datasets/{other.id}/thumbnails/{digest}").status_code == 200
    sentence(client.get(f"/api/datasets/{dataset.id}/thumbnails/{digest}"), 404)


@pytest.mark.parametrize(
    "digest",
    [
        "0" * 64,
        "x",
        "..",
        "%2e%2e",
        "..%2f..%2fdataset.json",
        "..%5cdataset.json",
        "a%00",
        "²" * 64,
    ],
)
def test_nothing_but_images_is_handed_out(client: TestClient, dataset: Dataset, digest: str):
    answer = client.get(f"/api/datasets/{dataset.id}/thumbnails/{digest}")
    assert answer.status_code == 404
    assert b"digest" not in answer.content


@pytest.mark.parametrize("unknown", ["nowhere", "..", "%2e%2e", "NOWHERE", "a" * 100])
def test_an_unknown_dataset_or_run_is_not_found_with_a_way_out(client: TestClient, unknown: str):
    if unknown == "..":
        assert client.get("/api/datasets/../images").status_code == 404
        return
    sentence(client.get(f"/api/datasets/{unknown}/images"), 404)
    sentence(client.get(f"/api/datasets/{unknown}/thumbnails/{'0' * 64}"), 404)
    sentence(client.get(f"/api/runs/{unknown}/images"), 404)


# --- runs --------------------------------------------------------------------------------------


def test_images_of_a_confusion_cell_come_surest_first(client: TestClient, served: Trained):
    answer = client.get(
        f"/api/runs/{served.run.id}/images",
        params={"split": "val", "true": "ants", "predicted": "ants"},
    ).json()
    scores = scoring.load(served.run.predictions).part("val")
    cell = scores.chosen((scores.labels == 0) & (scores.predicted == 0))
    assert answer["total"] == len(cell) > 0
    expected = cell.images[np.argsort(-cell.confidence, kind="stable")]
    assert [item["id"] for item in answer["items"]] == list(expected)
    assert answer["items"][0]["title"] == "ants → ants"


def test_a_class_that_the_run_does_not_know_is_not_found(client: TestClient, served: Trained):
    answer = client.get(f"/api/runs/{served.run.id}/images", params={"true": "lions"})
    assert "lions" in sentence(answer, 404)


def test_a_run_without_scores_says_so(client: TestClient, dataset: Dataset):
    run = runs.create(dataset, recipes.preset("quick"))
    assert "no classifier" in sentence(client.get(f"/api/runs/{run.id}/images"), 404)


def test_a_run_shows_the_revision_it_was_trained_on_whatever_was_corrected_since(
    trained: Trained, client, tmp_path, monkeypatch
):
    home = shutil.copytree(trained.home, tmp_path / "copy")
    monkeypatch.setenv("HEADSTART_HOME", str(home))
    address = f"/api/runs/{trained.run.id}/images"
    pair = {"true": "ants", "predicted": "ants", "split": "train"}
    before = client.get(address, params=pair).json()
    assert before["total"] > 0
    journal.record(trained.dataset.id, {"action": "rename", "from": "ants", "to": "emmets"})
    names = [item["id"] for item in before["items"]]
    newest = journal.record(trained.dataset.id, {"action": "exclude", "names": names})
    assert "ants" not in newest.classes
    assert client.get(address, params=pair).json() == before
    assert runs.data_of(runs.load(trained.run.id)).digest == trained.run.digest


@pytest.mark.parametrize(("kind", "channels"), [("picture", "RGB"), ("heat", "RGBA")])
def test_maps_are_pngs_that_nobody_keeps(client, served: Trained, kind: str, channels: str):
    answer = client.get(
        f"/api/runs/{served.run.id}/maps/{kind}", params={"image": "ants/00.jpg", "class": "bees"}
    )
    assert answer.headers["content-type"] == "image/png"
    assert "no-store" in answer.headers["cache-control"]
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.size, shown.mode) == ((64, 64), channels)


@pytest.mark.parametrize(
    ("image", "class_name", "status"),
    [("ants/99.jpg", "ants", 404), ("../run.json", "ants", 404), ("ants/00.jpg", "lions", 422)],
)
def test_a_map_of_an_unknown_image_or_class_is_refused(
    client: TestClient, served: Trained, image: str, class_name: str, status: int
):
    answer = client.get(
        f"/api/runs/{served.run.id}/maps/heat", params={"image": image, "class": class_name}
    )
    sentence(answer, status)


def test_a_contact_sheet_is_a_png_of_the_images_that_were_right(client, served: Trained):
    address = f"/api/runs/{served.run.id}/sheet"
    answer = client.get(address, params={"class": "ants", "part": "train", "method": "eigencam"})
    assert answer.headers["content-type"] == "image/png"
    assert "no-store" in answer.headers["cache-control"]
    scores = scoring.load(served.run.predictions).part("train")
    right = int(((scores.labels == 0) & (scores.predicted == 0)).sum())
    rows = -(-min(24, right) // 6)
    assert Image.open(io.BytesIO(answer.content)).size == (68 * 6 - 4, 68 * rows - 4)


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"class": "lions"}, 404), ({"class": "ants", "part": "new"}, 404),
     ({"class": "ants", "method": "lime"}, 422)],
)  # fmt: skip
def test_a_contact_sheet_of_what_is_not_there_is_refused(
    client: TestClient, served: Trained, asked: dict[str, str], status: int
):
    sentence(client.get(f"/api/runs/{served.run.id}/sheet", params=asked), status)


# --- the guard ---------------------------------------------------------------------------------

EVIL = "http://evil.example"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "localhost.evil.example", "", "localhost@evil"]
)
def test_a_foreign_name_of_this_server_is_not_answered(client: TestClient, host: str):
    assert client.get("/api/uploads/up-1", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1:1", "[::1]:8501"])
def test_its_own_names_are_answered(client: TestClient, host: str):
    assert client.get("/api/uploads/up-1", headers={"Host": host}).status_code == 200


def test_a_name_that_was_allowed_is_answered(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADSTART_HOSTS", "localhost, Lab.example")
    assert client.get("/api/uploads/u", headers={"Host": "lab.example:80"}).status_code == 200
    assert client.get("/api/uploads/u", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:9", "http://localhost"])
def test_no_other_page_can_change_anything_here(client: TestClient, origin: str):
    where, headers = "/api/uploads/up-1?offset=0&total=1", {"Origin": origin}
    assert client.put(where, content=b"x", headers=headers).status_code == 403
    assert client.delete("/api/uploads/up-1", headers=headers).status_code == 403
    assert not settings().uploads.exists()


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost:8501"}])
def test_its_own_pages_and_programs_can(client: TestClient, headers: dict[str, str]):
    where = "/api/uploads/up-1?offset=0&total=1"
    assert client.put(where, content=b"x", headers=headers).status_code == 200


def test_a_socket_is_opened_for_its_own_pages_alone(client: TestClient):
    with client.websocket_connect(
        "/socket", headers={"Host": "localhost:8501", "Origin": "http://localhost:8501"}
    ) as socket:
        assert socket.receive_text() == "hello"
    for headers in ({"Host": "localhost:8501", "Origin": EVIL}, {"Host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect) as closed,
            client.websocket_connect("/socket", headers=headers),
        ):
            pass
        assert closed.value.code == 1008


@pytest.mark.parametrize("path", ["/api/uploads/up-1", "/api/nowhere", "/api/docs"])
def test_every_answer_forbids_guessing_its_type_and_framing_it(client: TestClient, path: str):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "SAMEORIGIN"
