from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.evaluation import curves, intervals, metrics
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
    n, n_classes = draw(st.integers(1, 30)), draw(st.integers(2, 6) | st.integers(7, 50))
    logits = draw(arrays.arrays(np.int8, (n, n_classes), elements=st.integers(-4, 4)))
    labels = draw(arrays.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))
    return scored(labels, softmax(logits.astype(float)))


def figures_of(scores: Scores) -> dict[str, intervals.Figure]:
    return metrics.figures(scores, curves.areas(scores, curves.ranks(scores)))


def per_class(scores: Scores):
    return metrics.per_class(scores, classes_of(scores), curves.areas(scores, curves.ranks(scores)))


def macro_f1(scores: Scores) -> intervals.Figure:
    return figures_of(scores)["macro_f1"]


def classes_of(scores: Scores) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(scores.probabilities.shape[1]))


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
    table = per_class(scores)
    expected = reference.precision_recall_fscore_support(
        scores.labels, scores.predicted, labels=range(len(classes)), zero_division=0
    )
    assert list(table["class"]) == list(classes)
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        found = np.array([value or 0.0 for value in table[name].replace({np.nan: None})])
        assert np.abs(found - values).max() < CLOSE, name


def test_a_figure_that_is_not_defined_is_none_and_never_nan():
    table = per_class(guessed([0, 0, 1, 1], [0, 0, 0, 2], 4))
    rows = table.set_index("class").to_dict("index")
    assert rows["c1"]["precision"] is None  # Never predicted.
    assert rows["c2"]["recall"] is None and rows["c2"]["recall_low"] is None  # No image of it.
    assert all(rows["c3"][name] is None for name in ("precision", "recall", "f1", "recall_high"))
    assert rows["c1"]["f1"] == 0 and rows["c2"]["precision"] == 0
    assert rows["c0"]["precision"] == pytest.approx(2 / 3) and rows["c0"]["recall"] == 1


def test_classes_that_do_not_occur_have_no_say_in_macro_f1():
    labels, predicted = [0, 0, 1, 1], [0, 1, 1, 1]
    few, many = (guessed(labels, predicted, n_classes) for n_classes in (2, 50))
    assert macro_f1(few).value == macro_f1(many).value == pytest.approx(11 / 15)


def test_a_class_that_is_predicted_but_does_not_occur_counts_as_nothing():
    assert macro_f1(guessed([0, 0], [0, 1], 3)).value == pytest.approx(1 / 3)


def reference_figures(scores: Scores) -> dict[str, float]:
    """What scikit-learn says of the same predictions, for the figures that it defines."""
    n_classes = scores.probabilities.shape[1]
    truth, exact = (scores.labels, scores.predicted), scores.probabilities.astype(np.float64)
    found = {
        "accuracy": reference.accuracy_score(*truth),
        "micro_f1": reference.f1_score(*truth, average="micro"),
        "weighted_recall": reference.recall_score(*truth, average="weighted", zero_division=0),
        "matthews": reference.matthews_corrcoef(*truth),
        "kappa": reference.cohen_kappa_score(*truth),
    }
    recalls = reference.recall_score(*truth, average=None, zero_division=0, labels=range(n_classes))
    found["balanced_accuracy"] = recalls[np.unique(scores.labels)].mean()
    for name in ("precision", "recall", "f1"):
        measure = getattr(reference, f"{name}_score")
        found[f"macro_{name}"] = measure(*truth, average="macro", zero_division=0)
        found[f"weighted_{name}"] = measure(*truth, average="weighted", zero_division=0)
    for k in (3, 5):
        if k < n_classes:
            found[f"top_{k}"] = reference.top_k_accuracy_score(
                scores.labels, exact, k=k, labels=range(n_classes)
            )
    one_hot = np.eye(n_classes)[scores.labels]
    found["brier"] = float(((one_hot - exact) ** 2).sum(axis=1).mean()) / 2
    present = [k for k in range(n_classes) if 0 < one_hot[:, k].sum() < len(scores)]
    for name, measure in (
        ("auc", reference.roc_auc_score),
        ("average_precision", reference.average_precision_score),
    ):
        if present:
            areas = [measure(one_hot[:, k], scores.probabilities[:, k]) for k in present]
            found[name] = float(np.mean(areas))
            found[f"micro_{name}"] = measure(one_hot.ravel(), scores.probabilities.ravel())
    return found


@given(some_scores())
def test_every_figure_is_that_of_scikit_learn(scores: Scores):
    with warnings.catch_warnings():
        # Of one class alone, and of classes that do not occur.
        warnings.simplefilter("ignore")
        expected = reference_figures(scores)
    found = figures_of(scores)
    for name, value in expected.items():
        if math.isnan(value):
            assert found[name].value is None, name
        else:
            assert abs(found[name].value - value) < CLOSE, name
    undefined = {name for name in found if name not in expected} - {"log_loss"}
    assert all(found[name].value is None for name in undefined)


@given(some_scores())
def test_half_the_brier_score_is_that_of_scikit_learn(scores: Scores):
    labels = list(range(scores.probabilities.shape[1]))
    exact = scores.probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    expected = reference.brier_score_loss(
        scores.labels, exact, labels=labels, pos_label=None if len(labels) > 2 else 1,
        scale_by_half=True,
    ) if len(labels) > 2 else reference.brier_score_loss(
        scores.labels == 1, exact[:, 1], labels=[False, True]
    )  # fmt: skip
    assert metrics.brier(scores).value == pytest.approx(expected, abs=1e-6)


@given(some_scores())
def test_the_areas_of_each_class_are_those_of_scikit_learn_ties_included(scores: Scores):
    table = per_class(scores)
    for number in range(len(table)):
        truth, score = scores.labels == number, scores.probabilities[:, number]
        row = table.iloc[number]
        if truth.all() or not truth.any():
            assert row["auc"] is None and row["average_precision"] is None
        else:
            assert abs(row["auc"] - reference.roc_auc_score(truth, score)) < CLOSE
            expected = reference.average_precision_score(truth, score)
            assert abs(row["average_precision"] - expected) < CLOSE


@given(some_scores())
def test_every_curve_is_that_of_scikit_learn(scores: Scores):
    truth, score = scores.labels == scores.labels[0], scores.probabilities[:, scores.labels[0]]
    ranks = curves.ranked(truth, score)
    if truth.all():
        assert ranks is None
        return
    fpr, tpr, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    roc = curves.roc(ranks, "c")
    assert np.abs(roc.x - fpr).max() < CLOSE and np.abs(roc.y - tpr).max() < CLOSE
    precision, recall, _ = reference.precision_recall_curve(truth, score)
    found = curves.precision_recall(ranks, "c")
    # scikit-learn begins with all, and ends at a precision of 1 that nothing has.
    assert np.abs(found.x[1:] - recall[-2::-1]).max() < CLOSE
    assert np.abs(found.y[1:] - precision[-2::-1]).max() < CLOSE


def test_a_question_with_one_answer_has_no_curve():
    scores = guessed([0, 0], [0, 1], 2)
    for kind in curves.CURVES:
        assert curves.drawn(kind, curves.ranks(scores), ("a", "b")) == []


def test_guessing_alike_for_all_has_half_the_area():
    ranks = curves.ranked(np.array([True, False, True, False]), np.full(4, 0.5))
    assert curves.auc(ranks)[0] == 0.5 and len(ranks.thresholds) == 1


@pytest.mark.parametrize("kind", list(curves.AREAS))
def test_the_spread_of_an_area_is_that_of_drawing_images_anew(kind):
    rng = np.random.default_rng(1)
    truth = np.repeat([True, False], [60, 140])
    score = np.round(rng.normal(truth * 1.2, 1), 1)  # With ties.
    measure = curves.AREAS[kind]
    draws = []
    for _ in range(2000):
        some = np.r_[rng.integers(0, 60, 60), rng.integers(60, 200, 140)]
        draws.append(measure(curves.ranked(truth[some], score[some]))[0])
    _, moves = measure(curves.ranked(truth, score))
    assert moves.sum() == pytest.approx(0, abs=1e-9)
    found = np.sqrt(intervals.variance(moves, truth.astype(int)))
    assert found == pytest.approx(np.std(draws), rel=0.08)


def test_a_classifier_that_is_always_right_is_not_certain_to_be():
    figures = figures_of(guessed([0] * 20 + [1] * 20, [0] * 20 + [1] * 20, 2))
    for name in ("accuracy", "macro_f1", "auc", "matthews", "average_precision"):
        assert figures[name].value == figures[name].high == pytest.approx(1)
        assert 0.6 < figures[name].low < 0.97, name


def test_what_is_not_defined_is_said_and_never_nan():
    figures = figures_of(guessed([0, 0, 0], [0, 0, 0], 3))
    assert figures["kappa"].value is None and figures["auc"].value is None
    words = {row["figure"]: row["value"] for row in metrics.table(figures)}
    assert words["Cohen's kappa"] == "not defined"
    assert "nan" not in str(metrics.table(figures)).lower()


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
    assert intervals.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_from_no_image():
    assert intervals.wilson(0, 0) == (0.0, 1.0)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_the_interval_of_a_share_holds_it_and_is_symmetric(n: int, share: float):
    hits = round(share * n)
    low, high = intervals.wilson(hits, n)
    assert 0 <= low <= hits / n + CLOSE and hits / n - CLOSE <= high <= 1
    assert intervals.wilson(n - hits, n) == pytest.approx((1 - high, 1 - low), abs=CLOSE)


@given(some_scores())
def test_every_figure_lies_in_its_interval_and_knows_its_n(scores: Scores):
    for name, figure in figures_of(scores).items():
        assert figure.n == len(scores)
        if figure.value is not None:
            assert figure.low - CLOSE <= figure.value, name
            assert figure.high is None or figure.value <= figure.high + CLOSE, name


def test_the_interval_of_macro_f1_narrows_with_more_images():
    labels, predicted = [0] * 10 + [1] * 10, [0] * 8 + [1] * 9 + [0] * 3
    few, many = guessed(labels, predicted, 2), guessed(labels * 25, predicted * 25, 2)
    widths = [macro_f1(one).high - macro_f1(one).low for one in (few, many)]
    assert widths[1] == pytest.approx(widths[0] / 5, rel=0.15)


def test_the_interval_of_macro_f1_is_about_that_of_drawing_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    predicted = np.where(rng.random(200) < 0.75, labels, rng.integers(0, 3, 200))
    figure = macro_f1(guessed(list(labels), list(predicted), 3))
    draws = (rng.integers(0, 200, 200) for _ in range(300))
    f1 = [reference.f1_score(labels[d], predicted[d], average="macro") for d in draws]
    low, high = np.quantile(f1, [0.025, 0.975])
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.025)


def test_the_same_scores_have_the_same_interval():
    scores = guessed([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 2)
    assert macro_f1(scores) == macro_f1(scores)


def test_the_interval_of_the_loss_is_that_of_a_mean():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=np.float32)
    figure = metrics.log_loss(scored([0, 0, 0], probabilities))
    each = -np.log([0.9, 0.6, 0.2])
    spread = 4.302653 * each.std(ddof=1) / math.sqrt(3)  # Student's t, two degrees of freedom.
    assert figure.high == pytest.approx(each.mean() + spread, rel=1e-5)
    assert figure.low == pytest.approx(max(0, each.mean() - spread), abs=1e-5)


@given(some_scores())
def test_a_summary_is_plain_json(scores: Scores):
    found = metrics.summary(scores)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    kinds = metrics.KINDS.keys() - {
        name for name, k in metrics.TOPS.items() if k >= scores.probabilities.shape[1]
    }
    assert set(found) == {"n", *(f"{name}{end}" for name in kinds for end in ("", "_low", "_high"))}


def test_no_images_have_no_figures():
    assert metrics.summary(scored([], np.empty((0, 3), dtype=np.float32))) == {"n": 0}
