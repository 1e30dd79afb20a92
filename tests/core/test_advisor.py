from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.optimize import minimize
from scipy.stats import binomtest, multivariate_normal
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import Ridge
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from core import recipe as recipes
from core import timing
from core.data import importing, split
from core.data.dataset import Dataset
from core.models import advisor, catalog, likeness, probe, proposals, ranking, weights
from core.models import network as networks
from core.models.advisor import Estimate
from core.models.proposals import Facts
from core.models.ranking import Judged, Ranked
from core.training import estimate as estimating

# --- the linear probe and LogME


def clusters(n: int, width: int, n_classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n)
    centers = rng.normal(size=(n_classes, width)) * apart
    return (centers[labels] + rng.normal(size=(n, width))).astype(np.float32), labels


def largest_evidence(features: np.ndarray, truth: np.ndarray) -> float:
    """What LogME is defined as, the slow way: the marginal likelihood at its best precisions."""
    n, products = len(truth), features.astype(float) @ features.T.astype(float)

    def lost(log_precisions: np.ndarray) -> float:
        weight, noise = np.exp(-log_precisions)
        covariance = noise * np.eye(n) + weight * products
        return -float(multivariate_normal.logpdf(truth.astype(float), np.zeros(n), covariance))

    found = minimize(lost, [0.0, 0.0], method="Nelder-Mead", options={"fatol": 1e-9})
    return -float(found.fun) / n


@pytest.mark.parametrize("shape", [(40, 12), (20, 50)])
def test_logme_is_the_largest_log_evidence_per_image(shape: tuple[int, int]):
    features, labels = clusters(*shape, 3, 0.5)
    features = np.maximum(features, 0)  # As after a network's last ReLU.
    expected = np.mean([largest_evidence(features, labels == one) for one in range(3)])
    assert probe.logme(features, labels) == pytest.approx(expected, abs=1e-4)


def test_logme_is_higher_where_classes_lie_farther_apart():
    found = [probe.logme(*clusters(90, 20, 3, apart)) for apart in (0.0, 0.5, 2.0)]
    assert found == sorted(found)


@pytest.mark.parametrize("shape", [(60, 12), (30, 50)])
def test_the_probe_gives_a_fold_what_a_fit_without_that_fold_gives(shape: tuple[int, int]):
    features, labels = clusters(*shape, 3, 0.5)
    parts, targets, penalty = probe.folds(labels, 0), np.eye(3)[labels], 2.5
    vectors, squares = probe.decomposed(features - features.mean(axis=0))
    found = probe.left_out(vectors, squares / (squares + penalty), targets, parts)
    for part in range(probe.FOLDS):
        kept = parts != part
        fit = Ridge(alpha=penalty).fit(features[kept], targets[kept])
        np.testing.assert_allclose(found[~kept], fit.predict(features[~kept]), atol=1e-4)


def test_folds_spread_every_class_evenly_and_are_the_same_for_the_same_seed():
    labels = np.repeat([0, 1, 2], [53, 11, 5])
    parts = probe.folds(labels, 0)
    assert np.bincount(parts).tolist() == [14, 14, 14, 14, 13]
    for one in range(3):
        counts = np.bincount(parts[labels == one], minlength=probe.FOLDS)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(parts, probe.folds(labels, 0))
    assert not np.array_equal(parts, probe.folds(labels, 1))


def test_a_class_of_one_image_counts_as_a_mistake():
    features, labels = clusters(40, 10, 2, 3.0)
    features[7], labels[7] = 50.0, 2
    predicted = probe.predicted(features, labels, 0)
    assert predicted[7] != 2
    assert (predicted == labels).sum() == 39


def test_the_probe_knows_what_can_be_told_apart_and_guesses_what_cannot():
    features, labels = clusters(300, 20, 3, 2.0)
    assert (probe.predicted(features, labels, 0) == labels).mean() > 0.97
    features, labels = clusters(300, 20, 3, 0.0)
    assert (probe.predicted(features, labels, 0) == labels).mean() < 0.5


# --- likeness


def alike(pictures: list[np.ndarray]) -> likeness.Likeness:
    network = likeness.with_classifier()
    preprocessing = networks.preprocessing_of(network, recipes.made({}))
    squares = [
        F.resize(torch.from_numpy(one.copy()).permute(2, 0, 1), [224, 224]) for one in pictures
    ]
    return likeness.of_batches(network, preprocessing, [torch.stack(squares)])


def test_photos_are_more_alike_than_scanned_digits_and_noise():
    rng = np.random.default_rng(0)
    photos = [
        image[y : y + 300, x : x + 300]
        for image in load_sample_images().images
        for y, x in rng.integers(0, 120, (6, 2))
    ]
    scans = [np.kron(one, np.ones((28, 28))) * 15.9 for one in load_digits().images[:12]]
    digits = [np.repeat(one[:, :, None].astype(np.uint8), 3, axis=2) for one in scans]
    noise = [rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(12)]
    found = [alike(pictures) for pictures in (photos, digits, noise)]
    assert [one.words.partition(" ")[0] for one in found] == ["much", "unlike", "unlike"]
    assert found[0].score > found[1].score > found[2].score
    assert found[0].distance < found[1].distance < found[2].distance


def test_distance_is_0_for_what_the_statistics_were_taken_from():
    norm = torch.nn.BatchNorm2d(4, eps=0.0)
    maps = torch.randn(8, 4, 6, 6) * 3 + 2
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(maps.mean((0, 2, 3)))
    norm.running_var.copy_(maps.var((0, 2, 3), correction=0))

    def distance(*batches: Tensor) -> float:
        moments = likeness.Moments()
        for batch in batches:
            moments.add(batch)
        return float(moments.distance(norm))

    assert distance(maps[:3], maps[3:]) == pytest.approx(0, abs=1e-5)
    deviation = maps.std((0, 2, 3), correction=0).view(1, 4, 1, 1)
    assert distance(maps + 2 * deviation) == pytest.approx(4, rel=1e-3)


# --- ranking


def backbone(name: str, right: list[int], milliseconds: float) -> Judged:
    hits = np.asarray(right, dtype=bool)
    return Judged(
        Ranked(name, hits.mean(), 0, 1, len(hits), milliseconds, 100, 0, "mit", "yes"), hits
    )


LITE0 = ranking.in_order([backbone("tf_efficientnet_lite0", [1, 0, 1], 5.0)])


def test_of_equally_good_backbones_the_fastest_is_recommended():
    slow, fast = backbone("slow", [1] * 95 + [0] * 5, 50), backbone("fast", [1] * 93 + [0] * 7, 5)
    found = ranking.in_order([slow, fast])
    assert [one.name for one in found] == ["fast", "slow"]
    assert [one.recommended for one in found] == [True, False]


def test_a_backbone_that_is_better_beyond_luck_is_recommended_however_slow():
    slow, fast = backbone("slow", [1] * 95 + [0] * 5, 50), backbone("fast", [1] * 70 + [0] * 30, 5)
    assert [one.name for one in ranking.in_order([fast, slow])] == ["slow", "fast"]


def test_the_chance_of_luck_is_that_of_a_coin():
    one = np.asarray([1] * 12 + [0] * 4 + [1] * 20, dtype=bool)
    other = np.asarray([0] * 12 + [1] * 4 + [1] * 20, dtype=bool)
    assert ranking.chance_of_luck(one, other) == pytest.approx(binomtest(12, 16).pvalue)
    assert ranking.chance_of_luck(one, one) == 1.0


@pytest.mark.parametrize(("shares", "expected"), [([1.0], 8), ([0.3, 1.0], 3), ([0.3], 2)])
def test_a_busy_moment_makes_no_backbone_slow(shares, expected, monkeypatch):
    """shares: of the processors in each measurement. expected: ms an image, whole numbers."""
    recipe = recipes.made({"image.size": 64, "backbone.name": "test_efficientnet"})
    network = networks.create(recipe, 2, pretrained=False)
    seconds = iter([8.0, 3.0, 2.0])
    measured: list[float] = []

    def compare(candidates: object, n_threads: int, turns: int) -> timing.Timings:
        share = shares[min(len(measured), len(shares) - 1)]
        measured.append(next(seconds) * 32 / 1000)
        return timing.Timings({"batch": [measured[-1]] * turns}, share)

    monkeypatch.setattr(timing, "compare", compare)
    assert round(ranking.milliseconds(network, recipe)) == expected


def test_memory_counts_weights_and_the_largest_layer():
    recipe = recipes.made({"image.size": 64})
    network = networks.create(recipe, 2, pretrained=False)
    parameters = sum(one.numel() for one in network.parameters()) * 4 / 1e6
    small = ranking.memory_mb(network, recipe)
    # The norm after the first expansion: 96 maps of 32×32 in and as many out, 4 bytes each.
    assert small - parameters == pytest.approx(2 * 96 * 32 * 32 * 32 * 4 / 1e6, rel=0.01)


# --- rules


def facts(**changes: object) -> Facts:
    known = Facts(
        images=4_000, per_class=(900, 1_000, 1_100), classes=("cat", "dog"), aspect=1.33,
        side=480, likeness="much like everyday photos", alike=True, accuracy=0.9,
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]


def proposed(**changes: object) -> dict[str, object]:
    return {one.field: one.value for one in proposals.propose(facts(**changes))}


FROZEN = {"images": 200, "per_class": (90, 100, 110)}
LONG = 2 * proposals.LONG_MINUTES
# The facts that make a rule speak, those that do not, the field, and what is proposed in each case.
CASES = [
    ({"per_class": (2, 5, 9)}, {}, "technique.name", "feature_extraction", "finetune"),
    ({"accuracy": 0.99}, {}, "technique.name", "feature_extraction", "finetune"),
    (FROZEN, {**FROZEN, "alike": False}, "technique.name", "feature_extraction", "finetune"),
    ({"minutes": {"finetune": LONG}}, {"minutes": {"finetune": 1.0}}, "technique.name",
     "last_stages", "finetune"),
    ({"minutes": {"finetune": LONG, "last_stages": LONG}}, {"minutes": {"finetune": LONG}},
     "technique.name", "feature_extraction", "last_stages"),
    ({"aspect": 2.1}, {}, "image.fit", "letterbox", "crop"),
    ({"side": 100}, {}, "image.size", 128, "auto"),
    ({"side": 100}, {"side": 100, "any_side": False}, "image.size", 128, "auto"),
    ({"side": 100, "alike": False}, {"side": 100, "accuracy": 0.99}, "image.size", 128, "auto"),
    ({"accuracy": 0.99}, {}, "augmentation.policy", "none", "light"),
    ({"minutes": {"finetune": LONG}}, {}, "augmentation.policy", "none", "light"),
    ({**FROZEN, "alike": False}, {}, "augmentation.policy", "medium", "light"),
    ({"classes": ("0", "1")}, {}, "augmentation.horizontal_flip", 0.0, None),
    ({"classes": ("b", "D")}, {"classes": ("bee", "ant")}, "augmentation.horizontal_flip", 0.0,
     None),
    ({"classes": ("turn left", "stop")}, {"classes": ("leftover", "soup")},
     "augmentation.horizontal_flip", 0.0, None),
    ({"classes": ("0", "1")}, {"classes": ("0", "1"), "accuracy": 0.99},
     "augmentation.horizontal_flip", 0.0, None),
    ({"per_class": (100, 400, 900)}, {}, "balance.method", "oversample", "none"),
    ({"per_class": (100, 400, 900), "accuracy": 0.99}, {"accuracy": 0.99}, "balance.method",
     "class_weights", "none"),
    ({"per_class": (10, 400, 900)}, {"per_class": (100, 400, 900)}, "balance.strength", 0.5, None),
    ({"accuracy": 0.99}, {}, "schedule.epochs", 40, 4),
    ({"accuracy": 0.99, "images": 20_000}, {"accuracy": 0.99}, "schedule.epochs", 15, 40),
    ({}, {"accuracy": 0.99}, "schedule.min_steps", 500, None),
    ({}, {"accuracy": 0.99}, "stopping.patience", 0, None),
    ({**FROZEN, "alike": False}, {}, "regularization.dropout", 0.2, None),
]  # fmt: skip


@pytest.mark.parametrize(("yes", "no", "field", "then", "otherwise"), CASES)
def test_a_rule_speaks_where_its_reason_holds_and_only_there(yes, no, field, then, otherwise):
    assert proposed(**yes).get(field) == then
    assert proposed(**no).get(field) == otherwise


def test_few_photos_like_imagenets_are_best_left_to_a_frozen_backbone():
    ants_and_bees = facts(images=202, per_class=(97, 101, 105), accuracy=0.96)
    (technique, *_) = proposals.propose(ants_and_bees)
    assert technique.value == "feature_extraction"
    sentence = proposals.summary(replace(ants_and_bees, technique=technique.value))
    assert "Few images" in sentence and "much like" in sentence and "frozen" in sentence


def test_photos_of_another_kind_are_tuned_on_and_numerals_are_not_mirrored():
    hands = facts(
        images=1_443, per_class=(142, 144, 146), classes=tuple("0123456789"), alike=False,
        likeness="somewhat like everyday photos", side=100, accuracy=0.94,
    )  # fmt: skip
    found = {one.field: one.value for one in proposals.propose(hands)}
    assert found["technique.name"] == "finetune"
    assert found["augmentation.horizontal_flip"] == 0.0
    assert found["image.size"] == 128


ANY_FACTS = st.builds(
    Facts,
    images=st.integers(2, 200_000),
    per_class=st.lists(st.integers(0, 90_000), min_size=3, max_size=3).map(sorted).map(tuple),
    classes=st.lists(st.text(max_size=9), min_size=2, max_size=4).map(tuple),
    likeness=st.sampled_from(["much like everyday photos", "unlike everyday photos"]),
    alike=st.booleans(),
    aspect=st.floats(1, 50),
    side=st.integers(1, 9_000),
    backbone_side=st.sampled_from([224, 240, 384]),
    any_side=st.booleans(),
    accuracy=st.floats(0, 1),
    minutes=st.sampled_from([{}, {"finetune": LONG}, {"finetune": LONG, "last_stages": LONG}]),
)


@settings(max_examples=300)
@given(ANY_FACTS, st.sampled_from([None, *recipes.PRESETS]))
def test_whatever_is_proposed_is_a_recipe_with_a_reason_and_a_source_for_each_field(found, preset):
    draft = advisor.drafted(preset, found, LITE0)
    for one in draft.reasons:
        assert recipes.value_of(draft.recipe, one.field) == one.value
        assert (
            one.reason and one.source and "{" not in one.reason.replace("".join(found.classes), "")
        )
    assert recipes.from_yaml(recipes.to_yaml(draft.recipe)) == draft.recipe


@pytest.mark.parametrize(
    ("slow", "technique"),
    [
        ((), "finetune"),
        (("finetune",), "last_stages"),
        (("finetune", "last_stages"), "feature_extraction"),
    ],
)
def test_what_would_take_too_long_here_makes_room_for_something_simpler(slow, technique, insects):
    asked = []

    def estimator(dataset: Dataset, recipe: recipes.Recipe) -> Estimate:
        asked.append(recipe.technique.name)
        return Estimate({"tune": 7_200 if recipe.technique.name in slow else 60}, 100)

    known, draft, cost = advisor.affordable(insects, None, facts(), LITE0, estimator)
    assert draft.recipe.technique.name == known.technique == technique
    assert asked == [*slow, technique]
    assert cost.seconds == 60
    assert "120 minutes" in draft.reasons[1].reason or not slow


# --- all together


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", each=12)))


def test_a_sample_has_every_class_in_proportion_no_copy_and_no_test_image(
    class_photos, make_zip, monkeypatch
):
    photos = class_photos("many", "few", each=40)
    photos = {name: one for name, one in photos.items() if "few" not in name or "/1" in name}
    copied = {**photos, "many/copy.jpg": photos["many/3.jpg"]}
    dataset = importing.import_all(make_zip(copied))
    parts = split.split(dataset, (0.6, 0.2, 0.2), 0)
    everything = ranking.sample(dataset, parts, 0)
    assert set(parts[everything]) == {"train", "val"}
    digests = dataset.table["sha256"].iloc[everything]
    assert digests.is_unique
    assert set(digests) == set(dataset.table["sha256"][parts != "test"])
    monkeypatch.setattr(ranking, "MOST_IMAGES", 10)
    labels = dataset.table["label"].iloc[ranking.sample(dataset, parts, 0)]
    assert labels.value_counts().to_dict() == {"many": 8, "few": 2}


def cached_digests(home: Path) -> set[str]:
    names = [load_file(path)["digests"] for path in home.glob("cache/features/*/*.safetensors")]
    return {row.tobytes().decode() for one in names for row in one}


def test_advice_is_complete_keeps_its_features_and_never_looks_at_test_images(insects, home):
    *doing, advice = estimating.advise(insects)
    assert {one.text.partition(" ")[0] for one in doing} >= {"Comparing", "Looking", "Judging"}
    assert all(0 <= one.share <= 1 for one in doing)
    told = json.loads(json.dumps(advice.to_json(), allow_nan=False))
    assert told["images"] == 24 and told["classes"] == 2
    assert told["per_class"] == {"min": 12, "median": 12, "max": 12}
    assert set(told["likeness"]) == {"score", "confidence", "distance", "words", "method"}
    usable = [one for one in told["backbones"] if weights.usable_now(one["name"])]
    assert usable == told["backbones"] and sum(one["recommended"] for one in usable) == 1
    assert all(0 <= one["low"] <= one["accuracy"] <= one["high"] <= 1 for one in usable)
    assert [one["field"] for one in told["reasons"]] == list(told["recipe"])
    assert told["estimate"]["seconds"] > 0 and told["estimate"]["memory_mb"] > 0
    assert set(told["estimate"]["phases"]) == {"start", "features", "head", "finish"}
    assert advice.summary in advisor.in_words(advice)
    recipe = advice.recipe
    assert (
        recipes.changed(recipes.preset(told["preset"]), recipes.by_section(told["recipe"]))
        == recipe
    )
    parts = split.split(insects, recipe.data.split, recipe.seed)
    assert cached_digests(home) == set(insects.table["sha256"][parts != "test"])


def test_a_backbone_that_would_take_too_long_is_named_and_left_for_another_time(
    insects, monkeypatch
):
    monkeypatch.setattr(ranking, "candidates", lambda base: ["tf_efficientnet_lite0", "vgg16"])
    monkeypatch.setattr(ranking, "MOST_SECONDS", 0.0)
    *_, advice = estimating.advise(insects)
    assert [one.name for one in advice.backbones] == ["tf_efficientnet_lite0"]
    assert advice.untried == ("vgg16",)
    assert advice.to_json()["untried"] == ["vgg16"]
    assert "vgg16" in advisor.in_words(advice)


def test_what_a_license_forbids_stands_beside_it():
    assert catalog.licensed("cc-by-nc-4.0", "no") == "cc-by-nc-4.0, not for commercial use"
    assert catalog.licensed("mit", "yes") == "mit"


def test_without_any_weights_the_advisor_says_what_to_install(insects, monkeypatch):
    monkeypatch.setattr(weights, "usable_now", lambda name: False)
    with pytest.raises(weights.WeightsMissing):
        ranking.candidates(recipes.preset("quick"))
