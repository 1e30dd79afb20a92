"""The audit as a whole: a dataset in which one of everything is wrong."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from core.auditing import audit, findings
from core.auditing.findings import Findings
from core.auditing.kinds import KINDS
from core.data import dataset as datasets
from core.data import importing, journal
from core.data.dataset import Dataset
from core.errors import WeightsMissing
from tests.conftest import make_photo


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, quality=90)
    return buffer.getvalue()


def picture(seed: int, kind: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A photo of a kind with clouds of its own, so that no two are alike."""
    photo = Image.open(io.BytesIO(make_photo(seed, size, "PNG", kind)))
    levels = np.random.default_rng([seed, kind, 1]).integers(0, 256, (5, 6), dtype=np.uint8)
    clouds = Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    grain = np.random.default_rng([seed, kind, 2]).integers(0, 256, size[::-1], dtype=np.uint8)
    sharp = Image.fromarray(grain).convert("RGB")
    return Image.blend(Image.blend(photo, clouds, 0.35), sharp, 0.15)


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 120), Image.Resampling.NEAREST)


def with_spot(image: Image.Image) -> Image.Image:
    """A small dark thing in the middle."""
    image.paste((70, 20, 20), (70, 50, 84, 66))
    return image


# Each fault in a photo of a class of its own kind otherwise.
FAULTY = {
    "dark": picture(900).point(lambda level: level // 3),
    "bright": with_spot(Image.new("RGB", (160, 120), "white")),
    "blurred": picture(902).filter(ImageFilter.GaussianBlur(8)),
    "blank": Image.new("RGB", (160, 120), (120, 130, 125)),
    "tiny": picture(904, size=(24, 18)),
    "odd_aspect": picture(905, size=(480, 100)),
    "grayscale": picture(906).convert("L"),
}


def write_photos(folder: Path) -> None:
    for label, kind in (("ants", 0), ("bees", 3)):
        (folder / label).mkdir(parents=True)
        for seed in range(30):
            (folder / label / f"{seed:02d}.jpg").write_bytes(encoded(picture(seed, kind)))
    for kind, image in FAULTY.items():
        (folder / "ants" / f"{kind}.jpg").write_bytes(encoded(image))
    for seed in (700, 701):
        (folder / "bees" / f"wrong-{seed}.jpg").write_bytes(encoded(picture(seed, 0)))
    (folder / "bees" / "copy.jpg").write_bytes((folder / "bees" / "03.jpg").read_bytes())
    (folder / "bees" / "ant.jpg").write_bytes((folder / "ants" / "04.jpg").read_bytes())
    (folder / "bees" / "noise.jpg").write_bytes(encoded(noise(5)))
    (folder / "wasps").mkdir()
    for seed in range(12):
        content = encoded(picture(seed, 2, (96, 96)), "PNG")
        (folder / "wasps" / f"{seed}.png").write_bytes(content)


@dataclass(frozen=True)
class Audited:
    home: Path
    dataset: Dataset
    findings: Findings

    def names(self, kind: str) -> set[str]:
        return {name for group in self.findings.of(kind) for name in group.names}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    home = tmp_path_factory.mktemp("audited")
    write_photos(home / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(home))
        dataset = importing.import_all(home / "photos")
        *_, last = audit.audited(dataset)
        found = findings.load(dataset)
    assert found is not None and last.result is not None
    assert last.result["counts"] == {one.kind: len(one.groups) for one in found.findings}
    return Audited(home, dataset, found)


@pytest.fixture
def own(audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audited:
    """A copy that may be corrected."""
    shutil.copytree(audited.home / "datasets", tmp_path / "home" / "datasets")
    shutil.copytree(audited.home / "cache", tmp_path / "home" / "cache")
    return Audited(tmp_path / "home", datasets.load(audited.dataset.id), audited.findings)


@pytest.mark.parametrize("kind", list(FAULTY))
def test_a_photo_with_a_fault_is_named_for_it_and_no_sound_photo_is(audited: Audited, kind: str):
    assert audited.names(kind) == {f"ants/{kind}.jpg"}


def test_exact_copies_are_one_group(audited: Audited):
    groups = {group.names for group in audited.findings.of("exact_duplicate")}
    assert groups == {("bees/03.jpg", "bees/copy.jpg"), ("ants/04.jpg", "bees/ant.jpg")}


def test_copies_with_two_labels_contradict_each_other(audited: Audited):
    (group,) = audited.findings.of("contradiction")
    assert set(group.names) == {"ants/04.jpg", "bees/ant.jpg"}
    assert group.mixed
    assert findings.suggestion("exact_duplicate", group) is None


def test_wrong_labels_are_named_first_with_the_right_class_and_images_of_it(audited: Audited):
    doubts = audited.findings.of("label_error")
    wrong = {"bees/wrong-700.jpg", "bees/wrong-701.jpg", "bees/ant.jpg"}
    assert {name for group in doubts[:3] for name in group.names} == wrong
    for group in doubts[:3]:
        assert group.to == "ants"
        assert len(group.near) == 4
        assert all(name.startswith("ants/") for name in group.near)


def test_an_image_unlike_all_others_stands_apart(audited: Audited):
    assert "bees/noise.jpg" in audited.names("outlier")


def test_a_class_with_few_images_is_named_with_all_of_them(audited: Audited):
    (group,) = audited.findings.of("few_images")
    assert set(group.names) == {f"wasps/{seed}.png" for seed in range(12)}


def test_a_class_that_its_format_and_size_give_away_is_said_in_words(audited: Audited):
    said = [group.about for group in audited.findings.of("giveaway")]
    assert any("12 of 12 images of wasps are PNG; of all others 0 of" in one for one in said)
    assert any("12 of 12 images of wasps are 96 × 96 pixels" in one for one in said)


def test_a_second_audit_of_the_same_data_looks_at_nothing_again(
    own: Audited, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit, "looked_through", None)
    *_, last = audit.audited(own.dataset)
    assert last.result is not None and last.result["counts"]["blank"] == 1


def test_an_audit_after_a_correction_measures_only_what_is_new(
    own: Audited, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit.looks, "look", None)
    corrected = journal.record(own.dataset.id, {"action": "exclude", "names": ["ants/blank.jpg"]})
    *_, last = audit.audited(corrected)
    assert last.result is not None and last.result["revision"] == 2
    found = findings.load(corrected)
    assert found is not None and found.revision == 2 and not found.of("blank")


def test_every_suggestion_is_taken_by_the_journal_and_mends_its_finding(own: Audited):
    for finding in own.findings.findings:
        dataset = datasets.load(own.dataset.id)
        now = findings.load(dataset)
        assert now is not None
        for group in now.of(finding.kind)[:1]:
            correction = findings.suggestion(finding.kind, group)
            if correction is not None:
                after = findings.load(journal.record(dataset.id, correction))
                assert after is not None and group not in after.of(finding.kind)
    assert datasets.load(own.dataset.id).revision > 5


def test_without_weights_the_rest_is_still_looked_for(
    own: Audited, monkeypatch: pytest.MonkeyPatch
):
    def missing(*_: object, **__: object) -> None:
        raise WeightsMissing("No weights are here.", "Fetch them.")

    monkeypatch.setattr(audit.seen, "features", missing)
    *_, last = audit.audited(own.dataset, anew=True)
    found = findings.load(own.dataset)
    assert found is not None and last.result is not None
    assert found.of("blank") and not found.of("label_error")
    assert any("No weights are here." in note for note in found.notes)


def test_an_audit_that_is_abandoned_keeps_what_it_measured(
    tmp_path: Path, audited: Audited, monkeypatch: pytest.MonkeyPatch
):
    dataset = importing.import_all(audited.home / "photos")
    steps = audit.audited(dataset)
    while next(steps).done < 50:
        pass
    steps.close()
    assert audit.looks.file_of(dataset.folder).exists()
    assert findings.load(dataset) is None


def test_the_job_ends_when_it_is_asked_to_stop(own: Audited):
    steps = list(audit.steps(lambda: True, dataset=own.dataset.id, anew=True))
    assert len(steps) == 1 and steps[0].result is None


def test_the_shell_prints_findings_as_promised(own: Audited):
    command = [sys.executable, "-m", "core", "audit", own.dataset.id, "--json"]
    root = Path(__file__).parents[2]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    content = json.loads(answer.stdout.splitlines()[-1])
    for finding in content["findings"]:
        assert finding["kind"] in KINDS
        assert finding["count"] == len(finding["images"]) > 0
        assert all(isinstance(group, list) and group for group in finding["images"])
    kinds = {finding["kind"] for finding in content["findings"]}
    assert {*FAULTY, "exact_duplicate", "contradiction", "label_error", "outlier"} <= kinds
