"""The shell as a user has it: a process, its output, its exit status."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from core.__main__ import app, guarded

ROOT = Path(__file__).parents[2]
SMALL = ["--set", "image.size=32", "--set", "schedule.epochs=5"]


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core", *words],
        cwd=ROOT, env={**os.environ, "HEADSTART_TRACEBACK": ""}, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip


def said(*words: str) -> dict:
    done = shell(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def said_here(*words: str) -> dict:
    """The same without a process of its own, whose start takes seconds."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(sys, "argv", ["core", *words, "--json"])
        assert guarded(app) == 0, output.getvalue()
    answer: dict = json.loads(output.getvalue().splitlines()[-1])
    return answer


@pytest.fixture
def zip_path(class_photos, make_zip) -> str:
    photos = class_photos("ants", "bees", each=20)
    return str(make_zip({**photos, "ants/broken.jpg": b"no image"}))


def test_the_whole_path_from_a_zip_to_an_explained_prediction(zip_path, tmp_path):
    imported = said("import", zip_path, "--name", "insects")
    assert imported["images"] == 40
    assert imported["classes"] == ["ants", "bees"]
    assert [one["file"] for one in imported["skipped"]] == ["ants/broken.jpg"]

    trained = said("train", "insects", *SMALL)
    assert trained["state"] == "finished"
    assert trained["epochs"] == 5
    assert trained["test"]["n"] == 6
    assert trained["test"]["accuracy_low"] <= trained["test"]["accuracy"]
    assert {"seconds", "val", "peak_memory_mb", "images_per_second"} <= set(trained)
    run = trained["run"]

    assert said_here("runs")["runs"][0]["state"] == "finished"
    assert said_here("evaluate", run)["test"] == trained["test"]
    elsewhere = said_here("evaluate", run, "--on", zip_path)
    assert elsewhere["new"]["n"] == 40

    assert said_here("threshold", run, "bees", "--at", "0.999")["thresholds"] == {"bees": 0.999}
    assert said_here("threshold", run, "bees")["thresholds"] == {}
    views = said_here("views", run, "--use")
    assert views["used"] == list(views["views"])
    assert views["saved"]["low"] <= views["saved"]["value"] <= views["saved"]["high"]

    board = said_here("leaderboard", "insects")["runs"]
    assert [one["run"] for one in board] == [run] and board[0]["milliseconds"] > 0
    (same,) = said_here("compare-runs", run, run)["pairs"]
    assert (same["n"], same["p"], same["only_first"], same["only_second"]) == (6, 1, 0, 0)
    assert same["differences"]["accuracy"]["difference"]["value"] == 0
    alone = shell("compare-runs", run)
    assert alone.returncode == 2 and "Too few" in alone.stderr

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(_first_photo(zip_path))
    table = tmp_path / "table.csv"
    predicted = said("predict", run, str(photo), "--csv", str(table))["predictions"][0]
    assert predicted["prediction"] in ("ants", "bees")
    assert abs(sum(predicted["probabilities"].values()) - 1) < 1e-5
    assert str(photo) in table.read_text(encoding="utf-8-sig")
    picture = tmp_path / "why.png"
    said_here("explain", run, str(photo), "-o", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    how = ("--method", "layercam", "--layer", "1", "--class", "bees", "--check")
    assert (
        said_here("explain", run, str(photo), "-o", str(picture), *how)["shuffled_similarity"] >= -1
    )
    drawn = said_here("sheet", run, "ants", "-o", str(tmp_path / "sheet.png"), "--part", "train")
    assert 1 <= len(drawn["images"]) <= 24
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def _first_photo(zip_path: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(zip_path) as archive:
        return archive.read("ants/0.jpg")


def test_studies_from_the_shell(zip_path, tmp_path):
    said_here("import", zip_path, "--name", "insects")
    space = tmp_path / "space.yaml"
    space.write_text("head.hidden: [4, 8]\nhead.kind: [mlp]\n")
    how = ("--space", str(space), "--method", "grid", "--set", "head.kind=mlp", *SMALL)
    found = said("search", "insects", *how)
    assert (found["state"], found["reason"]) == ("finished", "finished")
    assert sorted(one["params"]["head.hidden"] for one in found["trials"]) == [4, 8]
    assert found["test"]["n"] == 6

    folds = said_here("crossval", "insects", "--folds", "2", *SMALL)
    assert (folds["kind"], folds["state"]) == ("crossval", "finished")
    studies = said_here("studies")["studies"]
    assert [one["study"] for one in studies] == [folds["study"], found["study"]]

    other = said_here("train", "insects", *SMALL)["run"]
    both = said_here("ensemble", found["run"], other, "--name", "both")
    assert [one["run"] for one in both["members"]] == [found["run"], other]
    alone = {run: said_here("evaluate", run)["test"]["accuracy"] for run in (found["run"], other)}
    gained = both["test"]["accuracy"] - alone[both["gain"]["against"]]
    assert both["gain"]["accuracy"]["value"] == pytest.approx(gained)
    twice = shell("ensemble", other, other)
    assert twice.returncode == 2 and "2 to 50 different runs, and not of 1" in twice.stderr

    assert said_here("study", found["study"], "--do", "delete")["deleted"]
    assert [one["study"] for one in said_here("studies")["studies"]] == [folds["study"]]


@pytest.mark.parametrize(
    "words",
    [
        ("train", "nothing-here"),
        ("train", "nothing-here", "--preset", "fast"),
        ("train", "nothing-here", "--set", "schedule.epoch=3"),
        ("evaluate", "norun"),
        ("predict", "norun", "x.jpg"),
        ("resume", "../../etc"),
        ("stop", "norun"),
        ("import", "no.zip"),
        ("explain", "norun", "no.jpg", "-o", "x.png"),
        ("trian", "photos"),
        ("search", "nothing-here"),
        ("search", "nothing-here", "--budget", "soon"),
        ("crossval", "nothing-here", "--folds", "1"),
        ("study", "nostudy", "--do", "delete"),
        ("ensemble", "norun", "norun"),
    ],
)
def test_a_refusal_is_two_sentences_and_exit_status_two(words):
    done = shell(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.strip().splitlines()) <= 6


def test_a_backbone_that_cannot_be_had_is_refused_at_once_and_leaves_no_run(zip_path):
    done = shell("train", zip_path, "--set", "backbone.name=resnet50", *SMALL)
    assert done.returncode == 2
    assert "tf_efficientnet_lite0" in done.stderr
    assert said("runs")["runs"] == []


def test_doctor_and_backbones_say_what_is_usable_now():
    assert "tf_efficientnet_lite0.in1k" in said("doctor")["weights_here"]
    places = {row["name"]: row["place"] for row in said("backbones")["backbones"]}
    assert places["tf_efficientnet_lite0.in1k"] == "package"
    assert "hub" in places.values()
