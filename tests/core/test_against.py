"""Two classifiers on the same images: whether their difference is told as it is."""

from __future__ import annotations

import dataclasses
import shutil
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from core import contrasting
from core import recipe as recipes
from core.errors import NotFound
from core.evaluation import against, counts, metrics
from core.evaluation import scores as scoring
from core.evaluation.scores import Scores, softmax
from core.runs import leaderboard, versus
from core.runs import run as runs
from tests.core.conftest import sentence

ANIMALS = ("ant", "bee", "wasp")


def scored(labels: np.ndarray, probabilities: np.ndarray, first: int = 0) -> Scores:
    names = np.array([f"{first + k}.jpg" for k in range(len(labels))], dtype=object)
    return Scores(probabilities, labels.astype(np.int64), names, np.full(len(labels), "test"))


def drawn(labels: np.ndarray, noise: float, seed: int, n_classes: int = 3) -> Scores:
    """Scores of a classifier that sees the truth through noise."""
    rng = np.random.default_rng(seed)
    return scored(
        labels,
        softmax(3 * np.eye(n_classes)[labels] + rng.normal(0, noise, (len(labels), n_classes))),
    )


def answers(right: list[bool], labels: list[int]) -> Scores:
    """Scores of a classifier of two classes that is right on some images."""
    said = [label if ok else 1 - label for ok, label in zip(right, labels, strict=True)]
    return scored(np.array(labels), softmax(np.eye(2)[said] * 3))


def of_table(both: int, first: int, second: int, neither: int) -> against.Comparison:
    """The comparison of two classifiers by how many images each has right."""
    pairs = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second
    pairs += [(False, False)] * neither
    labels = [k % 2 for k in range(len(pairs))]
    one, other = (answers([pair[side] for pair in pairs], labels) for side in (0, 1))
    return against.compared(against.shared(one, ("ant", "bee"), other, ("ant", "bee")))


def test_mcnemar_is_what_coins_say_by_hand():
    # Of 17 coins 12 or more on one side, either side: 2 · (6188 + 2380 + 680 + 136 + 17 + 1) / 2¹⁷.
    assert against.mcnemar(12, 5) == pytest.approx(2 * 9402 / 2**17)
    assert against.mcnemar(0, 5) == pytest.approx(2 / 32)
    assert against.mcnemar(0, 0) == against.mcnemar(4, 4) == 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_exact_test_of_scipy_whichever_comes_first(one: int, other: int):
    found = against.mcnemar(one, other)
    assert found == pytest.approx(against.mcnemar(other, one))
    if one + other:
        assert found == pytest.approx(binomtest(other, one + other).pvalue)


def test_the_interval_of_the_difference_of_accuracy_is_the_published_one():
    # Newcombe 1998, table III: 36, 12, 2, 0 of 50, method 10.
    found = of_table(36, 12, 2, 0).differences["accuracy"].difference
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (
        pytest.approx(0.0569, abs=1e-4),
        pytest.approx(0.3404, abs=1e-4),
    )


def test_a_run_against_itself_differs_in_nothing():
    scores = drawn(np.arange(90) % 3, 2, seed=1)
    found = against.compared(against.shared(scores, ANIMALS, scores, ANIMALS))
    assert (found.n, found.only_first, found.only_second, found.p) == (90, 0, 0, 1)
    for name, one in found.differences.items():
        assert one.difference.value == 0, name
        assert one.difference.low <= 0 <= one.difference.high
        assert against.better(name, one) == "not known"
    assert found.differences["macro_f1"].difference.high > 0.01
    assert "Nothing tells them apart" in against.in_words(found)


def test_the_order_of_images_and_of_classes_does_not_matter():
    labels = np.arange(120) % 3
    one, other = drawn(labels, 1.5, seed=1), drawn(labels, 2.5, seed=2)
    straight = against.compared(against.shared(one, ANIMALS, other, ANIMALS))
    turned = np.array([2, 0, 1])  # wasp, ant, bee
    renamed = dataclasses.replace(
        other, probabilities=other.probabilities[:, turned], labels=np.argsort(turned)[labels]
    ).chosen(np.random.default_rng(0).permutation(120))
    classes = tuple(ANIMALS[k] for k in turned)
    assert against.compared(against.shared(one, ANIMALS, renamed, classes)) == straight


def test_a_class_that_one_does_not_know_is_never_its_answer():
    labels = np.array([0, 1, 0, 1, 1])
    one = scored(labels, softmax(np.eye(2)[[0, 1, 0, 1, 0]] * 3))
    other = scored(labels * 2, softmax(np.eye(3)[[0, 2, 1, 2, 2]] * 3))
    both = against.shared(one, ("ant", "wasp"), other, ("ant", "bee", "wasp"))
    assert both.classes == ("ant", "bee", "wasp")
    found = against.compared(both)
    assert (found.n, found.only_first, found.only_second) == (5, 1, 1)
    assert (both.first.probabilities[:, 1] == 0).all()


def test_images_whose_class_was_corrected_in_between_are_left_out_and_told():
    labels = np.arange(60) % 3
    one = drawn(labels, 1, seed=1)
    corrected = dataclasses.replace(one, labels=np.r_[(labels[:2] + 1) % 3, labels[2:]])
    found = against.compared(against.shared(one, ANIMALS, corrected, ANIMALS))
    assert (found.n, found.relabelled) == (58, 2)
    assert "2 more are left out" in against.in_words(found)


def test_runs_without_a_common_image_are_told_so_and_have_no_figures():
    labels = np.arange(30) % 3
    one, other = drawn(labels, 1, seed=1), drawn(labels, 1, seed=2)
    renamed = dataclasses.replace(other, images=np.array([f"b{k}" for k in range(30)], object))
    found = against.compared(against.shared(one, ANIMALS, renamed, ANIMALS))
    assert (found.n, found.differences) == (0, {})
    assert "share no test image" in against.in_words(found)


def test_one_common_image_makes_no_number_that_is_none():
    one = drawn(np.array([1]), 1, seed=1)
    found = against.compared(against.shared(one, ANIMALS, one, ANIMALS))
    for difference in found.differences.values():
        figure = difference.difference
        ends = (difference.first, difference.second, figure.value, figure.low, figure.high)
        assert all(end is None or np.isfinite(end) for end in ends)
    assert "(n = 1)" in against.in_words(found) and "So few images" in against.in_words(found)


def test_the_words_give_the_counts_and_how_often_chance_would():
    text = against.in_words(of_table(60, 12, 5, 3))
    assert "A is right on 12 where B is wrong, B on 5 where A is wrong" in text
    assert "14 of 100 cases" in text and "not known" in text
    assert "B is better on such images" in against.in_words(of_table(60, 1, 15, 3))
    assert "fewer than 1 of 100" in against.in_words(of_table(60, 0, 15, 3))


def test_who_is_better_minds_that_a_low_loss_is_good():
    labels = np.arange(300) % 3
    found = against.compared(
        against.shared(drawn(labels, 1, seed=1), ANIMALS, drawn(labels, 4, seed=2), ANIMALS)
    )
    assert {against.better(name, one) for name, one in found.differences.items()} == {"A"}


def test_the_spread_of_a_paired_difference_is_that_of_drawing_pairs_anew():
    labels, rng = np.sort(np.arange(240) % 3), np.random.default_rng(0)
    both = against.shared(drawn(labels, 2, 1), ANIMALS, drawn(labels, 2.6, 2), ANIMALS)
    draws: dict[str, list[float]] = {name: [] for name in against.OF_COUNTS}
    for _ in range(1500):
        some = np.concatenate([rng.integers(80 * k, 80 * k + 80, 80) for k in range(3)])
        one, other = (
            counts.of(metrics.confusion(s.labels[some], s.predicted[some], 3))
            for s in (both.first, both.second)
        )
        for name, found in draws.items():
            measure = metrics.OF_COUNTS[name]
            found.append(float(measure(one)) - float(measure(other)))
    for name, one in against.of_counts(both).items():
        width = one.difference.high - one.difference.low
        assert width == pytest.approx(2 * 1.96 * np.std(draws[name]), rel=0.08), name


def test_intervals_hold_the_true_difference_about_as_often_as_they_say():
    """Over 400 test sets of 150 images on which both often err together."""
    rng, labels = np.random.default_rng(7), np.sort(np.arange(150) % 3)
    truth = against.compared(pair(rng, np.sort(np.arange(60_000) % 3)))
    held = dict.fromkeys(("accuracy", "macro_f1", "log_loss"), 0)
    for _ in range(400):
        found = against.compared(pair(rng, labels)).differences
        for name in held:
            one, true = found[name].difference, truth.differences[name].difference.value
            held[name] += one.low <= true <= one.high
    for name, times in held.items():
        assert 0.92 <= times / 400 <= 0.985, (name, times / 400)


def test_intervals_hold_the_true_difference_where_a_class_is_rare():
    """Over 300 test sets with 5 images of one class, on which a spread by chance is often 0."""
    rng, labels = np.random.default_rng(3), np.repeat([0, 1, 2], (5, 100, 100))
    truth = against.of_counts(pair(rng, np.repeat([0, 1, 2], (2500, 50_000, 50_000))))
    held = dict.fromkeys(against.OF_COUNTS, 0)
    for _ in range(300):
        for name, found in against.of_counts(pair(rng, labels)).items():
            one, true = found.difference, truth[name].difference.value
            held[name] += one.low <= true <= one.high
    for name, times in held.items():
        assert times / 300 >= 0.93, (name, times / 300)


@pytest.mark.filterwarnings("error")
def test_who_always_says_one_class_has_no_interval_where_a_figure_has_no_slope():
    labels = np.arange(60) % 3
    good, stuck = (
        scored(labels, softmax(3 * np.eye(3)[said])) for said in (labels, np.zeros(60, np.int64))
    )
    for one, other in ((good, stuck), (stuck, good), (stuck, stuck)):
        found = against.compared(against.shared(one, ANIMALS, other, ANIMALS)).differences
        matthews = found["matthews"].difference
        assert matthews.value == pytest.approx(found["matthews"].first - found["matthews"].second)
        assert (matthews.low, matthews.high) == (None, None)
        assert against.better("matthews", found["matthews"]) == "not known"
        assert found["balanced_accuracy"].difference.low is not None


def pair(rng: np.random.Generator, labels: np.ndarray) -> against.Shared:
    """A better and a worse classifier for which the same images are hard."""
    hard = rng.normal(0, 1.5, (len(labels), 3))
    one, other = (
        softmax(3 * np.eye(3)[labels] + hard + rng.normal(0, noise, hard.shape))
        for noise in (0.6, 1.8)
    )
    return against.shared(scored(labels, one), ANIMALS, scored(labels, other), ANIMALS)


def test_fifty_thousand_images_of_a_hundred_classes_take_less_than_a_second():
    labels, classes = np.arange(50_000) % 100, tuple(f"{k:03d}" for k in range(100))
    one, other = drawn(labels, 1.2, 1, 100), drawn(labels, 1.3, 2, 100)
    against.mcnemar(1, 2)  # What is imported once is not counted.
    started = time.perf_counter()
    against.compared(against.shared(one, classes, other, classes))
    assert time.perf_counter() - started < 1


# --- runs --------------------------------------------------------------------------------------


def test_a_finished_run_stands_in_the_leaderboard_with_what_it_costs(served):
    (entry,) = leaderboard.leaderboard(leaderboard.scored_runs(served.dataset.id), 1)
    row = entry.row()
    assert row["n"] == 4 and row["low"] <= row["accuracy"] <= row["high"]
    assert row["milliseconds"] > 0 and row["seconds"] > 0
    files = sum(path.stat().st_size for path in served.run.model.iterdir())
    assert row["size_mb"] == pytest.approx(files / 1e6, abs=0.01)
    # EfficientNet-Lite0 without its classifier, and two classes of 1,280 weights and a bias.
    assert row["parameters_m"] == pytest.approx(3.371 + 0.0026, abs=0.01)
    assert set(leaderboard.COLUMNS) <= set(row)


def test_a_time_that_was_measured_on_a_busy_machine_is_told_as_the_most_that_it_can_be(served):
    (entry,) = leaderboard.leaderboard(leaderboard.scored_runs(served.dataset.id), 1)
    quiet, busy = (
        dataclasses.replace(entry, milliseconds=5.0, milliseconds_busy=one) for one in (False, True)
    )
    assert "  5.0 ms" in contrasting.line_of(quiet) and "≤5.0 ms" in contrasting.line_of(busy)
    assert busy.row()["milliseconds_busy"] is True and not quiet.row()["milliseconds_busy"]


def test_a_leaderboard_is_of_one_revision(served):
    found = leaderboard.scored_runs(served.dataset.id)
    assert leaderboard.leaderboard(found, 2) == []
    assert leaderboard.scored_runs("another") == []


def test_only_what_differs_stands_in_the_difference_of_recipes(served):
    changed = recipes.with_settings(served.run.recipe, ["schedule.epochs=9", "seed=4"])
    other = runs.create(served.dataset, changed)
    try:
        rows = leaderboard.recipe_rows([served.run, other, served.run])
        assert rows == {"schedule.epochs": [3, 9, 3], "seed": [0, 4, 0]}
        assert leaderboard.recipe_rows([served.run]) == {}
    finally:
        runs.delete(other)


def test_runs_on_two_datasets_are_not_compared(served):
    other = dataclasses.replace(served.run, dataset="another", dataset_name="other photos")
    with pytest.raises(NotFound, match="other photos"):
        versus.shared_of(served.run, other)


def test_images_that_one_has_right_come_with_the_surest_mistake_first():
    labels = np.array([0, 1, 0, 1])
    one = scored(labels, softmax(np.eye(2)[labels] * 3))
    logits = np.array([[0, 1], [0, 1], [0, 4], [1, 0]])
    both = against.shared(one, ("ant", "bee"), scored(labels, softmax(logits)), ("ant", "bee"))
    assert versus.won(both).tolist() == [2, 0, 3]


def test_the_route_lists_the_images_that_one_run_has_right_and_another_wrong(client, served):
    again = shutil.copytree(served.run.folder, served.run.folder.with_name("spoiledcopy1"))
    facts = (again / "run.json").read_text().replace(served.run.id, again.name)
    (again / "run.json").write_text(facts)
    try:
        scores = scoring.load(again / "predictions.parquet")
        wrong = softmax(3 * np.eye(2)[1 - scores.labels])
        scoring.save(
            dataclasses.replace(scores, probabilities=wrong), again / "predictions.parquet"
        )
        own = scoring.load(served.run.predictions).part("test")
        right = int((own.predicted == own.labels).sum())
        address = f"/api/runs/{served.run.id}/images"
        answer = client.get(address, params={"against": again.name}).json()
        assert answer["total"] == len(answer["items"]) == right > 0
        assert client.get(answer["items"][0]["src"]).status_code == 200
        assert client.get(address, params={"against": served.run.id}).json()["total"] == 0
        sentence(client.get(address, params={"against": "nosuchrun"}), 404)
    finally:
        shutil.rmtree(again)
