"""Several runs as one: what they say together, what is stored, what is refused."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from core import recipe as recipes
from core.data import importing
from core.documents import card, document, taking
from core.errors import DatasetRefused, NotFound, NotNow, RecipeRefused
from core.evaluation import explain
from core.evaluation import scores as scoring
from core.models import classifier as classifiers
from core.runs import leaderboard, worker
from core.runs import run as runs
from core.runs.run import Run
from core.serving import batch
from core.storage import read_json, write_bytes
from core.studies import ensemble, gathering, weighing
from tests.conftest import make_photo

QUICK = ["image.size=64", "schedule.epochs=3", "data.split=[0.5, 0.25, 0.25]"]
PHOTO = make_photo(77, size=(90, 70), kind=1)


def trained(dataset, *assignments: str) -> Run:
    recipe = recipes.with_settings(recipes.preset("quick"), [*QUICK, *assignments])
    run = runs.create(dataset, recipe, name=" ".join(assignments) or "plain")
    *_, last = worker.work(run)
    assert last.reason == "finished", last
    return run


def combine(members: list[Run], method: str = "mean") -> Run:
    ids = [run.id for run in members]
    *_, last = ensemble.steps(lambda: False, runs=ids, method=method)
    return runs.load(last.result["run"])


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", "wasps", each=16)))


@pytest.fixture
def members(dataset) -> list[Run]:
    return [trained(dataset), trained(dataset, "head.kind=mlp"), trained(dataset, "head.kind=svm")]


def said(run: Run, photo: bytes = PHOTO) -> np.ndarray:
    classifier = classifiers.load(run.model)
    return classifier.probabilities(classifier.inputs(photo))[0]


def uncalibrated(run: Run) -> np.ndarray:
    """What an ensemble says before its own temperature."""
    return np.power(said(run), run.temperature) / np.power(said(run), run.temperature).sum()


def test_an_ensemble_says_the_mean_of_what_its_members_say(members):
    run = combine(members)
    np.testing.assert_allclose(
        uncalibrated(run), np.mean([said(one) for one in members], axis=0), atol=2e-6
    )
    assert not list(run.model.glob("model.safetensors"))
    assert [share.run for share in classifiers.shares_of(run.model)] == [m.id for m in members]


def test_a_few_validation_images_that_all_share_choose_nothing(dataset, monkeypatch):
    every = [trained(dataset), trained(dataset, "seed=1")]
    assert len(gathering.gathered([run.id for run in every]).held_out("val")[1]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(gathering, "LEAST_SHARED", 1)
        few = len(gathering.gathered([run.id for run in every]).held_out("val")[1])
    assert 0 < few < gathering.LEAST_SHARED
    with pytest.raises(DatasetRefused, match="Too few images are validation"):
        combine(every, "weighted")
    run = combine(every)
    assert run.temperature == 1.0
    assert "too few validation images" in " ".join(ensemble.notes_of(run))
    assert ensemble.gain(run).against == ""
    same = combine([every[0], trained(dataset, "head.kind=mlp")])
    assert ensemble.gain(same).against in same.members


def test_members_of_one_name_are_told_apart(dataset):
    every = [trained(dataset), trained(dataset, "head.kind=mlp")]
    run = combine(every)
    (said,) = [line for line in ensemble.told(ensemble.gain(run)) if "by validation" in line]
    assert any(f"· {one.id}" in said for one in every)


def test_one_that_is_left_out_takes_no_test_images_away(dataset, monkeypatch):
    every = [trained(dataset), trained(dataset, "head.kind=mlp"), trained(dataset, "seed=1")]
    alike = gathering.gathered([run.id for run in every[:2]]).held_out("test")[1]
    assert len(gathering.gathered([run.id for run in every]).held_out("test")[1]) < len(alike)
    monkeypatch.setattr(ensemble, "weighed", lambda members, method: np.array([0.5, 0.5, 0.0]))
    run = combine(every, "weighted")
    assert run.members == (every[0].id, every[1].id)
    assert any("seed=1" in note for note in ensemble.notes_of(run))
    assert {row["n"] for row in ensemble.table(run)} == {len(alike)}
    assert ensemble.gain(run).n == len(alike)


def test_one_that_was_stored_with_fewer_test_images_is_compared_on_those(members):
    run = combine(members[:2])
    stored = scoring.load(run.predictions)
    tests = np.flatnonzero(stored.split == "test")
    scoring.save(stored.chosen(np.delete(np.arange(len(stored)), tests[:3])), run.predictions)
    assert {row["n"] for row in ensemble.table(run)} == {len(tests) - 3}
    assert ensemble.gain(run).n == len(tests) - 3


def test_its_stored_scores_are_what_it_says(dataset, members):
    run = combine(members)
    found = batch.score(classifiers.load(run.model), dataset)
    stored = scoring.load(run.predictions)
    place = {name: k for k, name in enumerate(found.images)}
    order = [place[name] for name in stored.images]
    np.testing.assert_allclose(found.probabilities[order], stored.probabilities, atol=5e-3)
    held_out = stored.split != "train"  # Of these, features are exact numbers.
    np.testing.assert_allclose(
        found.probabilities[order][held_out], stored.probabilities[held_out], atol=1e-4
    )


def test_members_may_see_pictures_of_other_sizes(dataset, members):
    large = trained(dataset, "image.size=96", "seed=3")
    run = combine([members[0], large])
    classifier = classifiers.load(run.model)
    assert classifier.preprocessing.size >= 96
    expected = np.mean([said(members[0]), said(large)], axis=0)
    assert np.abs(uncalibrated(run) - expected).max() < 0.05
    assert explain.explain(run.model, PHOTO).heat.shape == (classifier.preprocessing.size,) * 2


def test_everything_that_works_on_a_run_works_on_an_ensemble(members, tmp_path):
    run = combine(members)
    before = said(run)
    path = tmp_path / "one.jpg"
    path.write_bytes(PHOTO)
    ((_, outcome),) = batch.predict_files(run.model, [path])
    assert outcome.classes[0] in run.classes
    assert outcome.rarer_than is not None
    assert explain.layer_names(run.model) == []
    assert -1 <= explain.sanity(run.model, PHOTO) < 1
    for method in ("gradcam", "occlusion"):
        heat = explain.explain(run.model, PHOTO, "bees", method).heat
        assert heat.shape == (64, 64) and heat.min() >= 0 and heat.max() <= 1
    assert members[0].id in document.html(run)
    assert "put together (mean)" in card.card(run)
    with zipfile.ZipFile(taking.packed(run)) as archive:
        archive.extractall(tmp_path / "taken")
    elsewhere = tmp_path / "nobody"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(elsewhere))
        taken = classifiers.load(tmp_path / "taken")
        np.testing.assert_array_equal(taken.probabilities(taken.inputs(PHOTO))[0], before)
    (entry,) = [e for e in leaderboard.leaderboard([run], run.revision)]
    assert entry.parameters_m > 3 * 3
    assert entry.row()["technique"] == "mean"


def test_a_map_is_the_mean_of_the_members_maps(members):
    run = combine(members[:2])
    maps = [explain.explain(one.model, PHOTO, "bees").heat for one in members[:2]]
    found = explain.explain(run.model, PHOTO, "bees").heat
    np.testing.assert_allclose(found, np.mean(maps, axis=0), atol=1e-5)


def test_no_image_that_a_member_learned_from_is_test(dataset, monkeypatch):
    monkeypatch.setattr(gathering, "LEAST_SHARED", 1)
    one, other = trained(dataset), trained(dataset, "seed=1")
    stored = [scoring.load(run.predictions) for run in (one, other)]
    parts = [dict(zip(s.images, s.split, strict=True)) for s in stored]
    gathered = gathering.gathered([one.id, other.id])
    assert (gathered.parts == "test").any()
    for name, part in zip(gathered.scores[0].images, gathered.parts, strict=True):
        both = {parts[0][name], parts[1][name]}
        assert (part == "test") == (both == {"test"})
        assert (part == "val") == (both == {"val"})


def test_weights_fit_validation_and_the_greedy_choice_is_never_worse_than_the_best_alone():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    sharp = np.array([0.5, 2.0, 1.0])
    logits = rng.normal(size=(3, 200, 4)) + sharp[:, None, None] * np.eye(4)[labels]
    probabilities = np.stack([scoring.softmax(one) for one in logits])
    alone = [weighing.loss(np.eye(3)[k], probabilities, labels) for k in range(3)]
    mean = weighing.loss(weighing.plain(probabilities, labels), probabilities, labels)
    for way in (weighing.weighted, weighing.greedy):
        weights = way(probabilities, labels)
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
        value = weighing.loss(weights, probabilities, labels)
        assert value <= min(alone) + 1e-9
        assert value < mean
    best = weighing.loss(weighing.weighted(probabilities, labels), probabilities, labels)
    for other in rng.dirichlet(np.ones(3), 200):
        assert best <= weighing.loss(other, probabilities, labels) + 1e-5


def test_a_soup_is_one_network_and_no_worse_on_validation_than_its_best(dataset):
    tune = ["technique.name=finetune", "schedule.epochs=2", "compute.precision=fp32"]
    every = [trained(dataset, *tune, f"optimizer.learning_rate={r}") for r in (1e-4, 2e-4, 3e-4)]
    try:
        run = combine(every, "soup")
    except DatasetRefused as refused:
        assert "alone is better" in refused.what
        return
    assert (run.model / "model.safetensors").exists()
    assert run.members == ()
    losses = [runs.result_of(one.events())["val"]["log_loss"] for one in every]
    assert runs.result_of(run.events())["val"]["log_loss"] <= min(losses) + 1e-3
    with pytest.raises(RecipeRefused, match="cannot be averaged"):
        combine([every[0], trained(dataset, "head.kind=mlp")], "soup")


def test_a_member_that_is_gone_or_changed_is_said_and_cannot_be_deleted(members):
    run = combine(members[:2])
    with pytest.raises(NotNow, match="is a member of"):
        runs.delete(members[0])
    sums = members[0].model / "SHA256SUMS"
    kept = sums.read_bytes()
    write_bytes(sums, json.dumps({**read_json(sums), "model.safetensors": "0" * 64}).encode())
    with pytest.raises(NotFound, match="trained again"):
        classifiers.load(run.model)
    sums.unlink()
    with pytest.raises(NotFound, match="is gone"):
        classifiers.load(run.model)
    sums.write_bytes(kept)
    assert classifiers.load(run.model).classes == run.classes
    runs.delete(run)
    runs.delete(members[0])


def test_what_makes_no_ensemble_is_refused_and_leaves_nothing(dataset, members, make_folder):
    before = {run.id for run in runs.all_runs()}
    with pytest.raises(RecipeRefused, match="2 to 50 different runs, and not of 1"):
        combine(members[:1] * 2)
    with pytest.raises(RecipeRefused, match="no method"):
        combine(members, "magic")
    squashed = trained(dataset, "image.fit=squash")
    with pytest.raises(RecipeRefused, match="different ways"):
        combine([members[0], squashed])
    assert {run.id for run in runs.all_runs()} == before | {squashed.id}
    made = combine(members)
    with pytest.raises(RecipeRefused, match="is an ensemble itself"):
        combine([made, members[0]])


def test_the_gain_is_against_the_best_by_validation(members):
    run = combine(members)
    found = ensemble.gain(run)
    losses = {m.id: runs.result_of(m.events())["val"]["log_loss"] for m in members}
    assert found.against == min(losses, key=losses.get)
    assert found.n == runs.result_of(run.events())["test"]["n"]
    accuracies = [runs.result_of(m.events())["test"]["accuracy"] for m in members]
    assert found.mean_of_members == pytest.approx(np.mean(accuracies))
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
    assert len(ensemble.told(found)) == 2
