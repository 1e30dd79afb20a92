"""What is taken along of a run, by HTTP and from the shell."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from core.data import importing
from core.documents import card, document, taking
from core.evaluation import plates
from core.evaluation.plates import FORMS, PLATES
from core.models import classifier
from core.runs import run as runs
from core.runs import scored
from core.serving import scoring
from core.settings import settings
from tests.core.altered import altered
from tests.core.altered import scored as scores_of
from tests.core.conftest import Trained, sentence

ROOT = Path(__file__).parents[2]


def name_of(answer: Response) -> str:
    found = re.fullmatch(
        r"attachment; filename\*=utf-8''(.*)", answer.headers["content-disposition"]
    )
    assert found is not None
    return unquote(found[1])


def test_documents_come_as_files_in_which_nothing_can_run(client: TestClient, served: Trained):
    run = served.run
    expected = {
        "report": ("quick on photos report.html", "text/html", document.html(run)),
        "card": ("quick on photos README.md", "text/markdown", card.card(run)),
        "recipe": ("quick on photos recipe.yaml", "text/yaml", runs.recipe_text(run)),
    }
    for kind, (name, media_type, text) in expected.items():
        answer = client.get(f"/api/runs/{run.id}/documents/{kind}")
        assert answer.text == text
        assert name_of(answer) == name
        assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "script-src" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "no-store" in answer.headers["cache-control"]


@pytest.mark.parametrize("form", FORMS)
def test_every_plate_comes_in_every_form(client: TestClient, served: Trained, form: str):
    for name in PLATES:
        answer = client.get(f"/api/runs/{served.run.id}/plates/{name}.{form}?part=val")
        assert answer.content == taking.plate(served.run, scored.own(served.run), "val", name, form)
        assert answer.headers["content-type"] == FORMS[form].media_type
        assert name_of(answer) == f"quick on photos val {name}.{form}"


def test_other_data_that_the_run_was_tried_on_are_told_and_drawn(
    client: TestClient, trained: Trained, make_folder, class_photos
):
    run = altered(trained)
    photos = class_photos("ants", "bees", each=5, first=50)
    other = importing.import_all(make_folder(photos), "next | month")
    *_, last = scoring.steps(lambda: False, run=run.id, dataset=other.id)
    assert "Figures of the dataset next | month, revision 1" in document.html(run)
    assert r"Figures of the dataset next \| month, revision 1" in card.card(run)
    address = f"/api/runs/{run.id}/plates/confusion"
    query = {"part": scored.NEW, "on": last.result["on"]}
    rows = client.get(f"{address}.csv", params=query).text.splitlines()[1:]
    assert sum(int(count) for row in rows for count in row.split(",")[1:]) == 10
    assert "(new images, n = 10)" in client.get(f"{address}.svg", params=query).text
    sentence(client.get(f"{address}.svg", params={**query, "on": "nowhere-1"}), 404)


def test_what_there_is_not_is_refused(client: TestClient, trained: Trained):
    run = altered(trained, scores=scores_of(2, parts=("train", "val")), drop_events="EpochEnded")
    base = f"/api/runs/{run.id}"
    assert "no test images" in sentence(client.get(f"{base}/plates/roc.svg"), 404)
    assert "no figure nothing.svg" in sentence(client.get(f"{base}/plates/nothing.svg"), 404)
    assert "no figure roc.exe" in sentence(client.get(f"{base}/plates/roc.exe"), 404)
    assert "no data for" in sentence(client.get(f"{base}/plates/course.svg?part=val"), 404)
    assert "no nowhere images" in sentence(client.get(f"{base}/plates/roc.svg?part=nowhere"), 404)
    assert client.get(f"{base}/documents/nothing").status_code == 404
    sentence(client.get("/api/runs/nothing/documents/report"), 404)
    sentence(client.get("/api/runs/nothing/pack"), 404)


def test_the_name_of_a_file_is_safe_whatever_the_run_is_called(
    client: TestClient, trained: Trained
):
    run = altered(trained, facts={"name": 'a/../b\r\nSet-Cookie: x="1"; é'})
    answer = client.get(f"/api/runs/{run.id}/documents/recipe")
    assert name_of(answer) == "a_.._b__Set-Cookie_ x=_1_; é recipe.yaml"
    assert "set-cookie" not in answer.headers


def test_the_packed_model_is_one_that_loads_with_its_card_and_leaves_nothing_behind(
    client: TestClient, served: Trained, tmp_path
):
    answer = client.get(f"/api/runs/{served.run.id}/pack")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == card.card(served.run)
    assert (tmp_path / "model" / "recipe.yaml").read_text() == runs.recipe_text(served.run)
    assert classifier.load(tmp_path / "model").classes == ("ants", "bees")
    assert list((settings().cache / "packs").iterdir()) == []


def test_the_shell_writes_report_card_and_figures(served: Trained, tmp_path):
    report, readme, figures = (tmp_path / name for name in ("r.html", "README.md", "figures"))
    done = subprocess.run(
        [sys.executable, "-m", "core", "report", served.run.id, "-o", report, "--card", readme,
         "--figures", figures, "--json"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout.splitlines()[-1])["files"]
    assert report.read_text(encoding="utf-8") == document.html(served.run)
    assert readme.read_text(encoding="utf-8") == card.card(served.run)
    assert {path.name for path in figures.iterdir()} == {f"{n}.{f}" for n in PLATES for f in FORMS}
    assert len(written) == 2 + len(PLATES) * len(FORMS)
    results = taking.facts.results_of(served.run, scored.own(served.run), "test")
    assert (figures / "roc.png").read_bytes() == plates.made("roc", results, "png")


def test_the_shell_refuses_a_run_that_was_not_scored(trained: Trained, tmp_path):
    run = altered(trained)
    run.predictions.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "core", "report", run.id, "-o", tmp_path / "r.html"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no predictions" in done.stderr
    assert not (tmp_path / "r.html").exists()
