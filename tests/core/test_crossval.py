"""Cross-validation: each image judged once by a model that had not seen it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from core import recipe as recipes
from core.auditing import audit, findings
from core.data import folding, importing, split
from core.errors import DatasetRefused, NotNow, RecipeRefused
from core.evaluation import intervals, metrics, report
from core.evaluation import scores as scoring
from core.models import classifier as classifiers
from core.runs import queue, supervisor, worker
from core.runs import run as runs
from core.studies import crossval, ensemble
from core.studies import study as studies
from core.studies.crossval import Plan
from core.training.events import Ended, Note
from tests.conftest import make_photo

SMALL = ["image.size=32", "schedule.epochs=3", "schedule.min_steps=0"]


def recipe_of(*assignments: str):
    return recipes.with_settings(recipes.preset("quick"), [*SMALL, *assignments])


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", "wasps", each=11)))


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch):
    """No supervisor: the test itself trains what is queued, one run after the other."""
    monkeypatch.setattr(supervisor, "ensure", lambda: None)


def conducted(study) -> None:
    """Drive a study here, and train each run that it queues."""
    for _ in crossval.conduct(study):
        train_next()


def train_next() -> None:
    waiting = queue.first()
    if waiting is not None:
        assert queue.claim("here", waiting)
        list(worker.work(runs.load(waiting)))
        queue.release(waiting)


def grouped(dataset, groups: Iterator[str] | list[str]):
    return replace(dataset, table=dataset.table.assign(group=list(groups)))


def test_each_image_is_in_the_test_part_of_one_fold_and_groups_stay_whole(dataset):
    table = dataset.table.assign(group=[f"g{k // 3}" for k in range(len(dataset.table))])
    data = replace(dataset, table=table)
    for drawing in (0, 1):
        counts = np.zeros(len(table), dtype=int)
        for number in range(1, 5):
            recipe = recipe_of(f"data.fold={number}/4#{drawing}")
            parts = folding.parts(data, recipe)
            counts += parts == "test"
            assert set(parts) == {"train", "val", "test"}
            by_group = {}
            for group, part in zip(table["group"], parts, strict=True):
                by_group.setdefault(group, set()).add(part)
            assert all(len(found) == 1 for found in by_group.values())
        assert (counts == 1).all()


def test_folds_are_the_same_for_every_recipe_and_seed_and_differ_by_drawing(dataset):
    def test_images(*assignments: str) -> list[str]:
        parts = folding.parts(dataset, recipe_of(*assignments))
        return list(dataset.table["name"][parts == "test"])

    first = test_images("data.fold=1/3")
    assert first == test_images("data.fold=1/3", "seed=7", "head.kind=mlp")
    assert first != test_images("data.fold=1/3#1")


def test_a_given_test_and_one_that_is_to_be_kept_stay_out_of_all_folds(dataset):
    given = np.where(np.arange(len(dataset.table)) % 4 == 0, "test", "train")
    brought = replace(dataset, table=dataset.table.assign(part=given))
    for number in (1, 2, 3):
        parts = folding.parts(brought, recipe_of(f"data.fold={number}/3"))
        assert ((parts == "kept") == (given == "test")).all()
    usual = recipe_of()
    test = split.split(dataset, usual.data.split, usual.seed) == "test"
    parts = folding.parts(dataset, recipe_of("data.fold=2/3", "data.keep_test=true"))
    assert ((parts == "kept") == test).all()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(1), "1 folds"),
        (Plan(51), "51 folds"),
        (Plan(5, repeats=0), "0 repeats"),
        (Plan(5, repeats=11), "11 repeats of 5 folds"),
        (Plan(0), "0 groups"),
    ],
)
def test_folds_that_the_images_do_not_allow_are_refused(dataset, plan, words):
    with pytest.raises(DatasetRefused, match=words):
        crossval.start(dataset, recipe_of(), plan)
    assert studies.all_studies() == []


def test_a_copy_that_names_no_group_is_left_out_with_the_image_that_it_copies(dataset):
    n = len(dataset.table)
    groups = [f"place {k % 3}" for k in range(n)]
    groups[0] = ""
    table = dataset.table.assign(group=groups)
    table.loc[0, "sha256"] = table["sha256"].iloc[1]  # A copy of an image in "place 1".
    data = replace(dataset, table=table)
    parts = folding.parts(data, recipe_of("data.fold=group:place 1"))
    assert parts[0] == parts[1] == "test"


def test_near_duplicates_alone_are_no_groups_to_leave_out(dataset):
    groups = ["pair a", "pair a", "pair b", "pair b", *[""] * (len(dataset.table) - 4)]
    with pytest.raises(DatasetRefused, match=f"Only 4 of {len(dataset.table)} images"):
        crossval.start(grouped(dataset, groups), recipe_of(), Plan(0))


def test_repeats_steady_the_mean_and_leave_each_image_one_judge(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3, repeats=2))
    conducted(study)
    assert len(study.result["folds"]) == 6
    assert study.result["n"] == study.result["metrics"]["n"] == len(dataset.table)
    first = [runs.load(row["run"]) for row in study.result["folds"][:3]]
    right = sum(metrics.accuracy(scoring.load(run.predictions).part("test")).value
                * runs.result_of(run.events())["test"]["n"] for run in first)  # fmt: skip
    assert study.result["metrics"]["accuracy"] == pytest.approx(right / len(dataset.table))


def test_a_recipe_that_names_no_fold_is_refused(dataset):
    with pytest.raises(RecipeRefused, match=r"data\.fold"):
        recipe_of("data.fold=two of three")
    with pytest.raises(DatasetRefused, match="fold 7/3"):
        folding.parts(dataset, recipe_of("data.fold=7/3"))
    with pytest.raises(RecipeRefused, match="one fold"):
        crossval.start(dataset, recipe_of("data.fold=1/3"), Plan(3))


def test_every_image_is_judged_by_the_model_that_had_not_seen_it(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    conducted(study)
    result = study.result
    assert result["reason"] == "finished"
    assert result["n"] == len(dataset.table)
    outcome = runs.load(result["run"])
    stored = scoring.load(outcome.predictions)
    assert sorted(stored.images) == sorted(dataset.table["name"])
    assert set(stored.split) == {"test"}
    judged = {}
    for number in range(3):
        fold = scoring.load(studies.members(study)[str(number)].predictions).part("test")
        judged |= dict(zip(fold.images, fold.probabilities, strict=True))
    for name, said in zip(stored.images, stored.probabilities, strict=True):
        np.testing.assert_array_equal(said, judged[name])
    assert result["metrics"]["accuracy"] == metrics.accuracy(stored).value
    assert report.evaluate(outcome.predictions, outcome.classes, "test").figures
    photo = make_photo(99, kind=2)
    assert classifiers.predicted(outcome.model, photo).given in dataset.classes
    assert [run.id for run in runs.listed()] == [outcome.id]
    with pytest.raises(NotNow, match="member"):
        runs.delete(studies.members(study)["0"])


def test_what_most_folds_were_told_is_told_of_all(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    conducted(study)
    members = studies.members(study)
    before = crossval.notes(study)
    for fold, kind in (("0", "rare"), ("1", "usual"), ("2", "usual"), ("0", ""), ("1", "")):
        runs.append(members[fold], Note(f"{kind} words of {fold}", kind=kind))
    said = [text for text in crossval.notes(study) if text not in before]
    assert said == ["Told in 2 of 3 folds (figures of the first): usual words of 1"]
    assert said[0] in crossval.told(study)


def test_the_labels_are_judged_by_all_folds(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    conducted(study)
    *_, last = audit.audited(dataset, run=study.result["run"])
    found = findings.load(dataset)
    assert last.result["dataset"] == dataset.id
    assert f"{len(dataset.table)} labels were judged by {study.name}." in found.notes


def test_kept_images_are_judged_by_the_mean_of_all_models(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3, keep_test=True))
    conducted(study)
    outcome = runs.load(study.result["run"])
    stored = scoring.load(outcome.predictions)
    kept = stored.part("kept")
    assert len(kept) + len(stored.part("test")) == len(dataset.table)
    members = [scoring.load(runs.load(one).predictions).part("kept") for one in outcome.members]
    np.testing.assert_allclose(
        kept.probabilities, np.mean([m.probabilities for m in members], axis=0), atol=1e-6
    )
    gain = ensemble.gain(outcome)
    assert (gain.n, gain.against) == (len(kept), "")


def test_each_group_is_left_out_once_and_single_images_are_learned_from(dataset, monkeypatch):
    groups = ["", "", *[f"place {k % 3}" for k in range(len(dataset.table) - 2)]]
    data = grouped(dataset, groups)
    monkeypatch.setattr(studies.Study, "data", lambda study: data)
    monkeypatch.setattr(runs, "data_of", lambda run: data)
    study = crossval.start(data, recipe_of(), Plan(0))
    assert study.plan["members"] == ["group:place 0", "group:place 1", "group:place 2"]
    conducted(study)
    assert study.result["n"] == len(groups) - 2


def test_a_dead_driver_loses_nothing_and_trains_no_fold_twice(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    for _ in crossval.conduct(study):
        train_next()
        if len(studies.members(study)) == 2:
            break  # The driver dies, its second run waits in the queue.
    conducted(studies.load(study.id))
    assert study.result["reason"] == "finished"
    assert sorted(studies.members(study)) == ["0", "1", "2", "outcome"]


def test_a_fold_that_somebody_else_stopped_is_trained_to_its_end(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    cut = []
    for _ in crossval.conduct(study):
        waiting = queue.first()
        if waiting is not None and not cut:
            cut.append(waiting)
            (runs.load(waiting).folder / "stop").touch()  # As SIGTERM to its worker does.
        train_next()
    assert study.result["reason"] == "finished"
    assert study.result["n"] == len(dataset.table)
    events = runs.load(cut[0]).events()
    assert [e.reason for e in events if isinstance(e, Ended)] == ["stopped", "finished"]


def test_a_fold_that_is_cut_by_stopping_counts_for_nothing(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    for _ in crossval.conduct(study):
        if len(studies.members(study)) == 3:
            studies.stop(study)
            (studies.members(study)["2"].folder / "stop").touch()
        train_next()
    assert study.result["reason"] == "stopped"
    rows = study.result["folds"]
    whole = crossval.spread(rows, len(dataset.table))["log_loss"]
    assert study.result["spread"]["log_loss"]["high"] == pytest.approx(whole.high)
    assert [row["fold"] for row in study.result["folds"]] == ["1/3", "2/3"]


def test_a_finished_one_is_deleted_with_its_folds_unless_an_ensemble_needs_one(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(3))
    conducted(study)
    folds = [run.id for name, run in studies.members(study).items() if name.isdigit()]
    *_, last = ensemble.steps(lambda: False, runs=folds[:2], method="mean", name="two")
    needed = runs.load(last.result["run"])
    before = {run.id for run in runs.all_runs()}
    with pytest.raises(NotNow, match=needed.name):
        studies.delete(study)
    assert {run.id for run in runs.all_runs()} == before
    runs.delete(needed)
    studies.delete(study)
    assert runs.all_runs() == [] and studies.all_studies() == []


def test_a_stopped_one_tells_what_was_trained(dataset):
    study = crossval.start(dataset, recipe_of(), Plan(4))
    for _ in crossval.conduct(study):
        train_next()
        if len(studies.members(study)) == 2 and not study.asked_to_stop:
            studies.stop(study)
    assert study.result["reason"] == "stopped"
    assert 0 < study.result["n"] < len(dataset.table)


def test_folds_that_are_all_alike_have_no_interval():
    found = intervals.of_folds(np.ones(5), 0.25)
    assert (found.value, found.low, found.high, found.n) == (1.0, None, None, 5)


def test_the_interval_of_folds_is_wider_than_their_spread_alone_would_say():
    values = np.array([0.90, 0.92, 0.88, 0.91, 0.89])
    found = intervals.of_folds(values, tested=1 / 4)
    naive = 2.776 * values.std(ddof=1) / np.sqrt(5)
    assert found.value == pytest.approx(0.9)
    assert found.high - found.value == pytest.approx(naive * np.sqrt(1 + 5 / 4), rel=1e-3)
    assert intervals.of_folds(np.array([0.99, 1.0]), 1.0).high == 1.0
    assert intervals.of_folds(np.array([0.9]), 1.0).low is None
