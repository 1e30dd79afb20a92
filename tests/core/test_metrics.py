from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.evaluation import metrics
from core.evaluation.scores import Scores, softmax

CLOSE = 1e-9


def scored(labels: np.ndarray | list[int], probabilities: np.ndarray) -> Scores:
    n = len(labels)
    names = np.array([f"{number}.jpg" for number in range(n)], dtype=object)
    return Scores(probabilities, np.asarray(labels, dtype=np.int64), names, np.full(n, "test"))


def guessed(labels: list[int], predicted: list[int], n_classes: int) -> Scores:
    """Scores of a classifier that is always quite sure of the given classes."""
    return scored(labels, softmax(np.eye(n_classes)[predicted] * 3))


@st.composite
def some_scores(draw: st.DrawFn) -> Scores:
    """Few images, often with ties and with classes that have none."""
    n, n_classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    logits = draw(arrays.arrays(np.int8, (n, n_classes), elements=st.integers(-4, 4)))
    labels = draw(arrays.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))
    return scored(labels, softmax(logits.astype(float)))


def classes_of(scores: Scores) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(scores.probabilities.shape[1]))


@given(some_scores())
def test_accuracy_is_that_of_scikit_learn(scores: Scores):
    expected = reference.accuracy_score(scores.labels, scores.predicted)
    assert abs(metrics.accuracy(scores).value - expected) < CLOSE
    assert metrics.accuracy(scores).n == len(scores)


@given(some_scores())
def test_macro_f1_is_that_of_scikit_learn(scores: Scores):
    truth = scores.labels, scores.predicted
    expected = reference.f1_score(*truth, average="macro", zero_division=0)
    assert abs(metrics.macro_f1(scores).value - expected) < CLOSE


@given(some_scores())
def test_log_loss_is_that_of_scikit_learn(scores: Scores):
    labels = list(range(scores.probabilities.shape[1]))
    with warnings.catch_warnings():
        # It warns where float32 probabilities miss 1 by a rounding.
        warnings.simplefilter("ignore", UserWarning)
        exact = scores.probabilities.astype(np.float64)
        expected = reference.log_loss(scores.labels, exact, labels=labels)
    assert abs(metrics.log_loss(scores).value - expected) < CLOSE


def test_the_loss_of_a_certain_mistake_is_that_of_scikit_learn_and_finite():
    probabilities = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    expected = reference.log_loss([0, 0, 1], probabilities, labels=[0, 1])
    assert metrics.log_loss(scored([0, 0, 1], probabilities)).value == pytest.approx(expected)


@given(some_scores())
def test_the_confusion_matrix_is_that_of_scikit_learn(scores: Scores):
    n_classes = scores.probabilities.shape[1]
    found = metrics.confusion(scores.labels, scores.predicted, n_classes)
    truth = scores.labels, scores.predicted
    assert np.array_equal(found, reference.confusion_matrix(*truth, labels=range(n_classes)))


@given(some_scores())
def test_figures_of_each_class_are_those_of_scikit_learn(scores: Scores):
    classes = classes_of(scores)
    table = metrics.per_class(scores, classes)
    expected = reference.precision_recall_fscore_support(
        scores.labels, scores.predicted, labels=range(len(classes)), zero_division=0
    )
    assert list(table["class"]) == list(classes)
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        found = np.array([value or 0.0 for value in table[name].replace({np.nan: None})])
        assert np.abs(found - values).max() < CLOSE, name


def test_a_figure_that_is_not_defined_is_none_and_never_nan():
    table = metrics.per_class(guessed([0, 0, 1, 1], [0, 0, 0, 2], 4), ("a", "b", "c", "d"))
    rows = table.set_index("class").to_dict("index")
    assert rows["b"]["precision"] is None  # Never predicted.
    assert rows["c"]["recall"] is None and rows["c"]["recall_low"] is None  # No image of it.
    assert all(rows["d"][name] is None for name in ("precision", "recall", "f1", "recall_high"))
    assert rows["b"]["f1"] == 0 and rows["c"]["precision"] == 0
    assert rows["a"]["precision"] == pytest.approx(2 / 3) and rows["a"]["recall"] == 1


def test_classes_that_do_not_occur_have_no_say_in_macro_f1():
    labels, predicted = [0, 0, 1, 1], [0, 1, 1, 1]
    few, many = (guessed(labels, predicted, n_classes) for n_classes in (2, 50))
    assert metrics.macro_f1(few).value == metrics.macro_f1(many).value == pytest.approx(11 / 15)


def test_a_class_that_is_predicted_but_does_not_occur_counts_as_nothing():
    assert metrics.macro_f1(guessed([0, 0], [0, 1], 3)).value == pytest.approx(1 / 3)


@given(some_scores())
def test_every_roc_area_is_that_of_scikit_learn_ties_included(scores: Scores):
    classes = classes_of(scores)
    curves = {curve.title: curve for curve in metrics.roc_curves(scores, classes)}
    one_hot = np.eye(len(classes))[scores.labels]
    present = [k for k in range(len(classes)) if 0 < one_hot[:, k].sum() < len(scores)]
    assume(present)
    areas = [reference.roc_auc_score(one_hot[:, k], scores.probabilities[:, k]) for k in present]
    for k, area in zip(present, areas, strict=True):
        assert abs(curves[classes[k]].auc - area) < CLOSE
    micro = reference.roc_auc_score(one_hot.ravel(), scores.probabilities.ravel())
    assert abs(curves["micro average"].auc - micro) < CLOSE
    assert abs(curves["macro average"].auc - np.mean(areas)) < CLOSE
    assert set(curves) == {*(classes[k] for k in present), "micro average", "macro average"}


@given(some_scores())
def test_every_roc_curve_is_that_of_scikit_learn(scores: Scores):
    truth, score = scores.labels == scores.labels[0], scores.probabilities[:, scores.labels[0]]
    assume(not truth.all())
    curve = metrics.roc(truth, score, "c")
    fpr, tpr, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    assert curve is not None
    assert np.abs(curve.false_positive_rate - fpr).max() < CLOSE
    assert np.abs(curve.true_positive_rate - tpr).max() < CLOSE


@given(some_scores())
def test_every_roc_curve_rises_from_nothing_to_all(scores: Scores):
    for curve in metrics.roc_curves(scores, classes_of(scores)):
        for rate in (curve.false_positive_rate, curve.true_positive_rate):
            assert (rate[0], rate[-1]) == (0, pytest.approx(1))
            assert (np.diff(rate) >= -CLOSE).all()


def test_a_question_with_one_answer_has_no_roc_curve():
    assert metrics.roc(np.array([True, True]), np.array([0.1, 0.2]), "c") is None
    assert metrics.roc_curves(guessed([0, 0], [0, 1], 2), ("a", "b")) == []


def test_guessing_alike_for_all_has_half_the_area():
    curve = metrics.roc(np.array([True, False, True, False]), np.full(4, 0.5), "c")
    assert curve is not None and curve.auc == 0.5
    assert len(curve.false_positive_rate) == 2


# Newcombe (1998), Statistics in Medicine 17, table I, method 3; and Wilson's own closed form.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_the_interval_of_a_share_is_the_one_in_the_literature(hits, n, low, high):
    assert metrics.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_from_no_image():
    assert metrics.wilson(0, 0) == (0.0, 1.0)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_the_interval_of_a_share_holds_it_and_is_symmetric(n: int, share: float):
    hits = round(share * n)
    low, high = metrics.wilson(hits, n)
    assert 0 <= low <= hits / n + CLOSE and hits / n - CLOSE <= high <= 1
    assert metrics.wilson(n - hits, n) == pytest.approx((1 - high, 1 - low), abs=CLOSE)


@given(some_scores())
def test_every_figure_lies_in_its_interval_and_knows_its_n(scores: Scores):
    for name, measure in metrics.FIGURES.items():
        figure = measure(scores)
        assert figure.low - CLOSE <= figure.value <= figure.high + CLOSE, name
        assert figure.n == len(scores)


def test_the_interval_of_macro_f1_narrows_with_more_images():
    labels, predicted = [0] * 10 + [1] * 10, [0] * 8 + [1] * 9 + [0] * 3
    few, many = guessed(labels, predicted, 2), guessed(labels * 25, predicted * 25, 2)
    widths = [metrics.macro_f1(one).high - metrics.macro_f1(one).low for one in (few, many)]
    assert widths[1] == pytest.approx(widths[0] / 5, rel=0.15)


def test_the_interval_of_macro_f1_is_about_that_of_drawing_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    predicted = np.where(rng.random(200) < 0.75, labels, rng.integers(0, 3, 200))
    figure = metrics.macro_f1(guessed(list(labels), list(predicted), 3))
    draws = (rng.integers(0, 200, 200) for _ in range(300))
    f1 = [reference.f1_score(labels[d], predicted[d], average="macro") for d in draws]
    low, high = np.quantile(f1, [0.025, 0.975])
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.025)


def test_the_same_scores_have_the_same_interval():
    scores = guessed([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 2)
    assert metrics.macro_f1(scores) == metrics.macro_f1(scores)


def test_the_interval_of_the_loss_is_that_of_a_mean():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=np.float32)
    figure = metrics.log_loss(scored([0, 0, 0], probabilities))
    each = -np.log([0.9, 0.6, 0.2])
    spread = 1.959964 * each.std(ddof=1) / math.sqrt(3)
    assert figure.high == pytest.approx(each.mean() + spread, rel=1e-5)
    assert figure.low == pytest.approx(max(0, each.mean() - spread), abs=1e-5)


@given(some_scores())
def test_a_summary_is_plain_json(scores: Scores):
    found = metrics.summary(scores)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = {f"{name}{end}" for name in metrics.FIGURES for end in ("", "_low", "_high")}
    assert set(found) == {"n", *names}


def test_no_images_have_no_figures():
    assert metrics.summary(scored([], np.empty((0, 3), dtype=np.float32))) == {"n": 0}


def test_mistakes_come_surest_first_and_without_what_is_right():
    logits = np.array([[1.0, 0], [5, 0], [0, 3], [2, 0], [0, 9]])
    scores = scored([1, 1, 1, 1, 0], softmax(logits))
    assert list(metrics.mistakes(scores)) == [4, 1, 3, 0]
