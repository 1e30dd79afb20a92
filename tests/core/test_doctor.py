from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Iterable

import numpy as np
import pytest

from core import recipe as recipes
from core.models import sizes
from core.schema import Recipe
from core.telling import Teller
from core.training import doctor, remedies, rules
from core.training.events import (
    Ended,
    EpochEnded,
    Event,
    Note,
    Progress,
    Started,
    from_json,
    to_json,
)
from core.training.history import History

CLASSES = ("ants", "bees", "wasps")
N_TRAIN, N_VAL = 140, 30
BALANCED = recipes.with_settings(recipes.preset("balanced"), ["optimizer.learning_rate=0.0002"])
QUICK = recipes.preset("quick")
SCRATCH = recipes.with_settings(recipes.preset("balanced"), ["technique.name=from_scratch"])
FINISHED = Ended("finished")


def started(n_val: int = N_VAL) -> Started:
    return Started("d", {"train": N_TRAIN, "val": n_val, "test": 30}, 3, "cpu", "fp32", "m", {}, 12)


def cosine(epochs: int, peak: float) -> np.ndarray:
    return peak * 0.5 * (1 + np.cos(np.pi * np.arange(epochs + 1) / epochs))


def log(
    recipe: Recipe,
    val_loss: Iterable[float],
    val: Iterable[float],
    train_loss: Iterable[float],
    train: Iterable[float],
    rates: Iterable[float] | None = None,
    unseen: Iterable[int] = (),
    waiting: float = 0.0,
    n_val: int = N_VAL,
) -> list[Event]:
    """A run as its log has it; the first value of each column is epoch 0, of train's unused."""
    columns = [list(values) for values in (val_loss, val, train_loss, train)]
    last = len(columns[0]) - 1
    rates = list(cosine(last, 2e-4) if rates is None else rates)
    phase = "head" if recipe.is_frozen else "tune"
    events: list[Event] = [started(n_val)]
    best = math.inf
    for epoch, (loss, accuracy, of_train, right) in enumerate(zip(*columns, strict=True)):
        steps = [epoch * 5 - k for k in (4, 3, 2, 1, 0)] if epoch else []
        many = len(steps)
        if steps:
            columns_of_steps = (steps, [of_train] * many, [right] * many, [rates[epoch]] * many)
            events.append(
                Progress(phase, epoch * 5, 60, 9.0, 9.0, epoch, *columns_of_steps, waiting)
            )
        events.append(
            EpochEnded(
                phase, epoch, last, epoch * 5,
                {"loss": loss, "accuracy": accuracy, "macro_f1": accuracy},
                {"loss": of_train, "accuracy": right} if epoch else {},
                rates[epoch], 1.0, best=loss < best, never_predicted=list(unseen),
            )
        )  # fmt: skip
        best = min(best, loss)
    return events


def falling(start: float, end: float, epochs: int, pace: float = 4.0) -> np.ndarray:
    return end + (start - end) * np.exp(-pace * np.arange(epochs + 1) / epochs)


def spoken(recipe: Recipe, events: list[Event], over: bool = True) -> dict[str, Note]:
    return {note.kind: note for note in doctor.diagnose(events, recipe, CLASSES, over)}


def healthy(recipe: Recipe, seed: int = 0, epochs: int = 12, probe_best: bool = False) -> list:
    """A sound run: 30 validation images whose accuracy jumps by chance, losses that jump too."""
    rng = np.random.default_rng([seed, epochs])
    fresh = recipe.is_frozen or not recipe.is_pretrained
    start, at_best = (math.log(3), 1 / 3) if fresh else (0.35, 0.90)
    true = falling(at_best, 0.93, epochs)
    accuracy = rng.binomial(N_VAL, true) / N_VAL
    jumps = np.exp(rng.normal(0, 0.05 if recipe.is_frozen else 0.2, epochs + 1))
    val_loss = falling(start, 0.4 if probe_best else 0.28, epochs) * jumps
    val_loss[0] = 0.2 if probe_best else start
    train_loss = falling(start, 0.08, epochs) * np.exp(rng.normal(0, 0.15, epochs + 1))
    train = rng.binomial(N_TRAIN, falling(at_best, 0.97, epochs)) / N_TRAIN
    peak = 2e-3 if recipe.is_frozen else 2e-4
    return log(recipe, val_loss, accuracy, train_loss, train, cosine(epochs, peak))


# For each rule a course that shows it.


def too_fast() -> list[Event]:
    rising = np.r_[0.3, 0.35, 0.6, 0.9, 1.2, 1.3, 1.2, 1.3, 1.2, 1.2, 1.1, 1.1, 1.1]
    return log(BALANCED, rising, 1 - rising / 2.2, rising, 1 - rising / 2.2)


def too_slow() -> list[Event]:
    way = np.cumsum(cosine(12, 1.0)) - 1
    loss = 1.1 - 0.02 * way
    return log(SCRATCH, loss, 0.3 + 0.02 * way, loss, 0.3 + 0.02 * way)


def by_heart() -> list[Event]:
    val = np.r_[0.6, 0.4, 0.3, 0.32, 0.38, 0.42, 0.48, 0.52, 0.58, 0.6, 0.64, 0.66, 0.7]
    return log(BALANCED, val, 0.9 - val / 10, falling(0.6, 0.01, 12), falling(0.8, 1, 12))


def too_little() -> list[Event]:
    return log(
        QUICK, falling(1.1, 0.8, 12), falling(0.33, 0.62, 12), falling(1.1, 0.78, 12),
        falling(0.33, 0.64, 12), cosine(12, 2e-3),
    )  # fmt: skip


def blurred() -> list[Event]:
    return log(
        BALANCED, falling(0.4, 0.3, 12), falling(0.85, 0.92, 12), falling(1.0, 0.8, 12),
        falling(0.5, 0.65, 12),
    )  # fmt: skip


def still() -> list[Event]:
    flat = np.r_[1.1, 0.8, 0.6, 0.5, [0.45] * 21]
    accuracy = np.r_[0.3, 0.7, 0.8, 0.85, [0.9] * 21]
    return log(SCRATCH, flat, accuracy, flat, accuracy, [1e-3] * 25)


def no_gain() -> list[Event]:
    return healthy(BALANCED, probe_best=True)


def unseen() -> list[Event]:
    events = healthy(BALANCED)
    return [
        EpochEnded(**{**vars(e), "never_predicted": [1]}) if isinstance(e, EpochEnded) else e
        for e in events
    ]


def starved() -> list[Event]:
    events = healthy(BALANCED)
    return [
        Progress(**{**vars(e), "waiting": 0.6}) if isinstance(e, Progress) else e for e in events
    ]


SHOWN = {
    "rate_too_high": (BALANCED, too_fast, "rose from 0.35 in epoch 1 to 1.20 in epoch 4"),
    "rate_too_low": (SCRATCH, too_slow, "hardly begun"),
    "overfitting": (BALANCED, by_heart, "Since epoch 2 .*by heart"),
    "underfitting": (QUICK, too_little, "gets only 6.% of its own training images right"),
    "augmentation_too_strong": (BALANCED, blurred, "validation images"),
    "plateau": (SCRATCH, still, "neither training nor validation loss has moved"),
    "probe_was_best": (BALANCED, no_gain, "of 30 validation images 90% were right"),
    "never_predicted": (BALANCED, unseen, "bees"),
    "slow_input": (BALANCED, starved, "60%"),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_course_that_shows_it_is_told_with_a_change(kind: str):
    recipe, course, words = SHOWN[kind]
    notes = spoken(recipe, course())
    assert kind in notes, notes
    assert re.search(words, notes[kind].text), notes[kind].text
    assert notes[kind].change


@pytest.mark.parametrize("kind", SHOWN)
def test_a_sound_course_is_left_in_peace(kind: str):
    recipe, _, _ = SHOWN[kind]
    assert kind not in spoken(recipe, healthy(recipe))


def test_of_two_explanations_of_one_curve_only_the_first_is_told():
    assert list(spoken(BALANCED, too_fast())) == ["rate_too_high"]


HEALTHY = {
    "the head was not best": (BALANCED, 12, False),
    "the head was best already": (BALANCED, 12, True),
    "few epochs": (BALANCED, 4, False),
    "a head alone": (QUICK, 40, False),
    "from scratch": (SCRATCH, 40, False),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_chance_on_thirty_validation_images_raises_no_alarm(case: str):
    recipe, epochs, probe_best = HEALTHY[case]
    alarms: dict[str, int] = {}
    runs = 200
    for seed in range(runs):
        events = [*healthy(recipe, seed, epochs, probe_best), FINISHED]
        for event in doctor.attended(events, recipe, CLASSES):
            if isinstance(event, Note):
                alarms[event.kind] = alarms.get(event.kind, 0) + 1
    told = alarms.pop("probe_was_best", 0)
    assert told > 0.75 * runs if probe_best else told < 0.02 * runs
    assert all(count < 0.02 * runs for count in alarms.values()), alarms


def kinds_of(events: Iterable[Event]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Note)]


def broken(reports: int = 1) -> list[Event]:
    """A run whose loss is no number in epoch 3, as it is read back from its log."""
    events = healthy(BALANCED)[:7]
    steps = ([16, 17], [0.5, math.nan], [0.9, 0.3], [2e-4, 2e-4])
    events += [Progress("tune", 17, 60, 9.0, 9.0, 3, *steps)] * reports
    return [event for event in map(from_json, map(to_json, events)) if event]


def test_a_loss_that_is_no_number_is_told_once_and_takes_a_tenth_of_the_rate():
    events = [*broken(2), FINISHED]
    notes = [e for e in doctor.attended(events, BALANCED, CLASSES) if isinstance(e, Note)]
    assert [note.kind for note in notes] == ["rate_too_high"]
    assert "epoch 3, step 17" in notes[0].text
    assert notes[0].change == {"optimizer.learning_rate": 2e-5}


def test_a_rule_that_somebody_else_has_spoken_for_is_not_told_again():
    own = Note("The loss stopped being a number.", "warning", "rate_too_high")
    events = [*broken(), own, FINISHED]
    assert kinds_of(doctor.attended(events, BALANCED, CLASSES)) == ["rate_too_high"]


def test_leaps_of_the_loss_within_one_epoch_are_enough():
    events: list[Event] = healthy(BALANCED)[:1]
    steps = (list(range(1, 11)), [0.3, 6.0, 0.9, 7.0, 1.1] * 2, [0.5] * 10, [3e-4] * 10)
    events.append(Progress("tune", 10, 60, 9.0, 9.0, 1, *steps))
    assert "4 times" in spoken(BALANCED, events, over=False)["rate_too_high"].text
    calm = Progress("tune", 10, 60, 9.0, 9.0, 1, steps[0], [1.2, 0.9] * 5, *steps[2:])
    assert not spoken(BALANCED, [events[0], calm], over=False)


def test_single_images_that_are_badly_wrong_are_no_leaps():
    recipe = recipes.with_settings(BALANCED, ["compute.batch_size=1"])
    losses = [6.0 if step % 20 == 0 else 0.1 for step in range(200)]
    steps = (list(range(200)), losses, [0.5] * 200, [3e-4] * 200)
    assert not spoken(recipe, [started(), Progress("tune", 1, 9, 9.0, 9.0, 1, *steps)])


def test_a_backbone_that_forgets_in_the_first_epochs_is_told_early():
    val = [0.2, 1.0, 1.1, 0.9]
    events = log(BALANCED, val, [0.95, 0.6, 0.55, 0.65], [1.0, 1.0, 1.0, 1.0], [0, 0.5, 0.55, 0.6])
    assert "forgets" in spoken(BALANCED, events, over=False)["rate_too_high"].text


def test_a_network_that_stays_as_it_was_takes_steps_that_are_too_short():
    flat = 0.35 + 0.003 * np.sin(np.arange(13))
    training = 0.3 * np.exp(np.random.default_rng(0).normal(0, 0.2, 13))
    events = log(BALANCED, flat, [0.9] * 13, training, [0.93] * 13)
    assert "rate_too_low" in spoken(BALANCED, events)
    learned = log(BALANCED, flat, [0.9] * 13, training / 100, [1.0] * 13)
    assert "rate_too_low" not in spoken(BALANCED, learned)


def test_a_head_whose_loss_creeps_up_by_a_fifth_is_as_it_should_be():
    # Measured: hymenoptera, preset quick, lite0 at 96 px.
    val = np.r_[
        0.69, 0.3, 0.16, 0.12, 0.108, 0.1, 0.096, 0.094, 0.092, np.linspace(0.092, 0.109, 32)
    ]
    train = np.r_[0.69, 0.4, 0.25, 0.2, 0.17, 0.1, 0.06, 0.04, np.linspace(0.028, 0.0035, 33)]
    right = np.r_[0.5, 0.9, [0.95] * 5, [1.0] * 34]
    assert not spoken(QUICK, log(QUICK, val, [0.5] + [0.95] * 40, train, right, cosine(40, 2e-3)))


def test_fitted_heads_which_have_no_epochs_are_left_in_peace():
    for kind in ("logistic", "svm", "knn"):
        recipe = recipes.with_settings(QUICK, [f"head.kind={kind}"])
        events = [*log(recipe, [0.2], [0.9], [0], [0], [0.0]), FINISHED]
        assert kinds_of(doctor.attended(events, recipe, CLASSES)) == []


def test_a_fitted_head_that_never_predicts_a_class_is_told_at_the_end():
    recipe = recipes.with_settings(QUICK, ["head.kind=logistic"])
    events = log(recipe, [0.4], [0.66], [0], [0], [0.0], unseen=[2])
    assert "wasps" in spoken(recipe, events)["never_predicted"].text
    assert not spoken(recipe, events, over=False)


def test_at_most_three_classes_are_named():
    classes = [f"class {k}" for k in range(10)]
    events = log(QUICK, [2.3] * 5, [0.2] * 5, [2.3] * 5, [0.2] * 5, unseen=range(8), n_val=300)
    notes = {note.kind: note for note in doctor.diagnose(events, QUICK, classes, False)}
    assert "class 0, class 1, class 2 and 5 more" in notes["never_predicted"].text


def test_a_class_with_few_validation_images_may_be_missed_by_luck():
    classes = [f"class {k}" for k in range(30)]
    events = log(QUICK, [1.0] * 5, [0.7] * 5, [1.0] * 5, [0.7] * 5, unseen=[4])
    assert "never_predicted" not in [n.kind for n in doctor.diagnose(events, QUICK, classes, True)]


def test_the_head_that_fine_tuning_begins_with_is_not_judged():
    probe = [
        EpochEnded(**{**vars(e), "phase": "head"}) for e in too_fast() if isinstance(e, EpochEnded)
    ]
    assert not spoken(BALANCED, [started(), *probe])


def test_blended_images_are_no_sign_of_too_much_augmentation():
    recipe = recipes.with_settings(BALANCED, ["augmentation.mixup=0.2"])
    assert "augmentation_too_strong" not in spoken(recipe, blurred())


@pytest.mark.parametrize("method", ["oversample", "undersample"])
def test_rare_classes_that_come_more_often_are_no_sign_of_too_much_augmentation(method: str):
    recipe = recipes.with_settings(BALANCED, [f"balance.method={method}"])
    assert "augmentation_too_strong" not in spoken(recipe, blurred())


def test_more_epochs_are_more_than_a_floor_of_steps_gave():
    recipe = recipes.with_settings(QUICK, ["schedule.epochs=2", "schedule.min_steps=500"])
    more = remedies.freer(recipe, 30, longer=True)[0]
    assert more == {"schedule.epochs": 60}


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "tf_efficientnet_lite0", "vgg11"])
def test_smaller_images_are_of_a_size_that_the_backbone_takes(name: str):
    recipe = recipes.with_settings(BALANCED, [f"backbone.name={name}", "image.size=224"])
    size = remedies.smaller(recipe)["image.size"]
    assert 112 <= size < 224
    assert sizes.fits(name, size)


def test_where_the_dataset_brings_its_split_no_other_is_proposed():
    events = [started(12), *healthy(BALANCED)[1:], FINISHED]
    for own, proposed in ((False, True), (True, False)):
        told = doctor.attended(events, BALANCED, CLASSES, own_split=own)
        (note,) = [e for e in told if isinstance(e, Note) and e.kind == "few_validation"]
        assert bool(note.change) == proposed


def test_few_validation_images_are_told():
    def sound(n: int) -> list[Event]:
        return [started(n), *healthy(BALANCED)[1:]]

    assert "one of them is 8%" in spoken(BALANCED, sound(12))["few_validation"].text
    assert "few_validation" not in spoken(BALANCED, sound(20))


def test_a_run_that_its_patience_has_stopped_is_on_no_plateau():
    recipe = recipes.with_settings(SCRATCH, ["stopping.patience=20"])
    early = [
        EpochEnded(**{**vars(e), "epochs": 100}) if isinstance(e, EpochEnded) else e
        for e in still()
    ]
    assert "plateau" not in spoken(recipe, early)


def test_every_event_passes_and_notes_come_before_the_end():
    events = [*too_fast(), FINISHED]
    passed = list(doctor.attended(events, BALANCED, CLASSES))
    assert [e for e in passed if not isinstance(e, Note)] == events
    assert kinds_of(passed) == ["rate_too_high"]
    assert passed[-1] == FINISHED


def test_a_warning_comes_as_soon_as_it_can_be_seen():
    passed = []
    for event in doctor.attended(too_fast(), BALANCED, CLASSES):
        passed.append(event)
        if isinstance(event, Note):
            break
    assert isinstance(passed[-2], EpochEnded)
    assert passed[-2].epoch < 6


def test_whoever_stops_in_the_middle_closes_the_training():
    closed = []

    def training():
        try:
            yield from too_fast()
        finally:
            closed.append(True)

    attended = doctor.attended(training(), BALANCED, CLASSES)
    next(attended)
    attended.close()
    assert closed == [True]


@pytest.mark.parametrize("reason", ["stopped", "failed"])
def test_of_a_run_that_was_cut_short_its_end_says_nothing(reason: str):
    events = [*too_little()[:12], Ended(reason)]
    assert kinds_of(doctor.attended(events, QUICK, CLASSES)) == []


def test_a_resumed_run_knows_what_was_before_and_repeats_nothing():
    events = [*by_heart(), FINISHED]
    whole = list(doctor.attended(events, BALANCED, CLASSES))
    assert kinds_of(whole) == ["overfitting"]
    for cut in range(0, len(events), 3):
        before = list(doctor.attended(events[:cut], BALANCED, CLASSES))
        after = list(doctor.attended(events[cut:], BALANCED, CLASSES, before))
        assert kinds_of([*before, *after]) == ["overfitting"]


def test_ten_thousand_epochs_cost_seconds():
    epochs = 10_000
    recipe = recipes.with_settings(QUICK, [f"schedule.epochs={epochs}"])
    events = healthy(recipe, 0, epochs)
    began = time.perf_counter()
    assert len(list(doctor.attended(events, recipe, CLASSES))) >= len(events)
    assert time.perf_counter() - began < 15


TECHNIQUES = recipes.choices(dict(recipes.fields())["technique.name"])
OTHERS = (
    "seed=0", "head.kind=mlp", "head.kind=svm", "head.kind=knn", "head.kind=logistic",
    "balance.method=smote", "balance.method=augment_minority", "balance.method=focal",
    "augmentation.policy=none", "augmentation.policy=strong",
    "augmentation.policy=TrivialAugment", "augmentation.horizontal_flip=0",
    "regularization.dropout=0.5", "optimizer.weight_decay=1", "schedule.epochs=1",
    "schedule.epochs=10000", "schedule.min_steps=500", "schedule.name=plateau",
    "optimizer.learning_rate=find", "optimizer.learning_rate=0.5", "image.size=32",
    "compute.workers=1", "compute.batch_size=auto", "finish.soup=true",
    "data.split=[0.2, 0.7, 0.1]", "backbone.weights=/there/is.safetensors",
)  # fmt: skip


def every_recipe() -> list[Recipe]:
    found = []
    for preset in recipes.PRESETS:
        for technique in TECHNIQUES:
            for other in OTHERS if preset == "balanced" else OTHERS[:5]:
                try:
                    assignments = [f"technique.name={technique}", other]
                    found.append(recipes.with_settings(recipes.preset(preset), assignments))
                except recipes.RecipeRefused:
                    continue
    return found


def test_every_change_of_every_recipe_gives_another_recipe_that_can_be_used():
    whole = every_recipe()
    assert len(whole) > 100
    told: set[str] = set()
    for recipe in whole:
        notes = [note for _, course, _ in SHOWN.values() for note in spoken(
            recipe, in_the_phase_of(recipe, course())
        ).values()]  # fmt: skip
        notes += filter(None, [doctor.augmentation_note(1.0, 0.5, 100, recipe)])
        for note in notes:
            told.add(note.kind)
            if note.change:
                other = recipes.changed(recipe, recipes.by_section(note.change))
                assert other != recipe, note
                typed = [f"{name}={remedies.shown(value)}" for name, value in note.change.items()]
                assert recipes.with_settings(recipe, typed) == other
    assert told >= set(SHOWN)


def in_the_phase_of(recipe: Recipe, events: list[Event]) -> list[Event]:
    phase = "head" if recipe.is_frozen else "tune"
    return [type(e)(**{**vars(e), "phase": phase}) if hasattr(e, "phase") else e for e in events]


def test_what_the_user_knows_of_mirror_images_outlives_another_policy():
    recipe = recipes.with_settings(BALANCED, ["augmentation.horizontal_flip=0"])
    change = spoken(recipe, by_heart())["overfitting"].change
    other = recipes.changed(recipe, recipes.by_section(change))
    assert (other.augmentation.policy, other.augmentation.horizontal_flip) == ("medium", 0)


def test_a_change_that_would_change_nothing_here_is_passed_over():
    # A linear head has no dropout of its own, and a frozen backbone sees no augmentation.
    assert remedies.first_valid(QUICK, [{"head.dropout": 0.0}]) == {}
    assert remedies.first_valid(QUICK, [{"schedule.epochs": 40}, {"schedule.epochs": 41}]) == {
        "schedule.epochs": 41
    }
    assert remedies.first_valid(QUICK, [{"balance.method": "augment_minority"}]) == {}


def test_a_change_is_told_in_words_and_as_the_shell_takes_it():
    change = {"optimizer.learning_rate": 2e-5, "data.split": [0.5, 0.35, 0.15], "finish.soup": True}
    assert remedies.in_words(BALANCED, change) == [
        "optimizer.learning_rate: 0.0002 → 0.00002",
        "data.split: [0.7, 0.15, 0.15] → [0.5, 0.35, 0.15]",
        "finish.soup: false → true",
    ]
    line = Teller(quiet=False).text_of(Note("Too fast.", "warning", "rate_too_high", change))
    assert line.startswith("Too fast. Next time: --set optimizer.learning_rate=0.00002 --set")
    typed = [word for word in shlex.split(line.partition(": ")[2]) if word != "--set"]
    assert recipes.with_settings(BALANCED, typed) == recipes.changed(
        BALANCED, recipes.by_section(change)
    )
    assert Teller(quiet=False).text_of(Note("Resumed.")) == "Resumed."


def test_augmented_images_that_leave_their_class_are_told_beyond_chance():
    note = doctor.augmentation_note(0.98, 0.6, 200, BALANCED)
    assert note is not None
    assert note.change == {"augmentation.policy": "none"}
    assert "200" in note.text
    assert doctor.augmentation_note(0.98, 0.9, 200, BALANCED) is None
    assert doctor.augmentation_note(0.9, 0.6, 10, BALANCED) is None
    assert doctor.augmentation_note(0.0, 0.0, 0, BALANCED) is None
    assert doctor.augmentation_note(0.98, 0.6, 200, QUICK) is None


def test_a_history_grows_with_its_epochs_and_not_with_its_steps():
    history = History(BALANCED, CLASSES)
    steps = (list(range(1000)), [0.5] * 1000, [0.5] * 1000, [1e-3] * 1000)
    for _ in range(100):
        history.add(Progress("tune", 1, 9, 9.0, 9.0, 1, *steps))
    assert history.steps.stretches == 100_000 * BALANCED.compute.batch_size // 32
    assert history.peak_rate == 1e-3
    assert len(vars(history.steps)["_losses"]) < 10


def test_every_rule_stands_in_one_group():
    spoken_for = [rule for group in doctor.RULES for rule in group]
    assert len(spoken_for) == len(set(spoken_for)) == len(SHOWN) + 1
    assert all(getattr(rules, rule.__name__) is rule for rule in spoken_for)
