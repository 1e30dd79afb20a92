"""What each technique leaves as it was, what it trains, and in which order."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from core import recipe as recipes
from core.data import importing
from core.errors import RecipeRefused
from core.models import network as networks
from core.models import stages
from core.training import checkpoint, loop, range_test, techniques, tuning, work
from core.training.events import EpochEnded, Event, Note, Progress, steps_of
from core.training.work import Work
from tests.core.test_options import SMALL, room

__all__ = ["room"]  # A fixture, shared with the module that tries every option.
Prepared = Callable[..., Work]


@pytest.fixture
def prepared(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepared]:
    """Makes a training ready whose recipe is SMALL with some values changed."""
    monkeypatch.setenv("HEADSTART_HOME", str(room))

    def prepare(stop: Callable[[], bool] = lambda: False, **values: Any) -> Work:
        named = {name.replace("__", "."): value for name, value in values.items()}
        given = {**SMALL, "technique.name": "finetune", **named}
        if given["technique.name"] != "from_scratch":
            given["backbone.weights"] = str(room / "weights.safetensors")
        dataset = importing.import_all(room / "photos")
        return work.prepare(dataset, recipes.made(given), tmp_path, stop)

    yield prepare


def happened(made: Work) -> list[Event]:
    """Train to the end by the recipe's technique."""
    return list(techniques.TECHNIQUES[made.recipe.technique.name](made, None))


def values(made: Work) -> dict[str, torch.Tensor]:
    """Weights and statistics of the network as they are now."""
    return {key: value.clone() for key, value in made.network.state_dict().items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of what is not what it was, but for counters of batches."""
    return {
        key for key, value in after.items()
        if "num_batches" not in key and not torch.equal(value, before[key])
    }  # fmt: skip


def names_of(made: Work, chosen: slice) -> set[str]:
    """Names of the parameters of some stages."""
    every = stages.stages(made.network)[chosen]
    return {name for stage in every for name in stage.parameters}


@pytest.fixture
def last_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that are kept are those of the last epoch, better or not."""
    better = itertools.count()
    monkeypatch.setattr(loop, "value_of", lambda recipe, figures: float(next(better)))


def test_feature_extraction_changes_the_classifier_and_nothing_else(prepared: Prepared):
    made = prepared(technique__name="feature_extraction")
    before = values(made)
    happened(made)
    assert moved(before, values(made)) == {"classifier.weight", "classifier.bias"}


@pytest.mark.usefixtures("last_is_best")
@pytest.mark.parametrize("n_last", [1, 2])
@pytest.mark.parametrize("policy", ["none", "light"])
def test_last_stages_trains_those_and_leaves_the_others_bit_for_bit(
    prepared: Prepared, n_last: int, policy: str
):
    made = prepared(technique__name="last_stages", technique__stages=n_last,
                    augmentation__policy=policy, technique__freeze_batch_norm=False)  # fmt: skip
    before = values(made)
    happened(made)
    changed = moved(before, values(made))
    learned = names_of(made, slice(-n_last, None))
    assert learned <= changed
    frozen = names_of(made, slice(None, -n_last))
    assert not frozen & changed
    still = {name.rpartition(".")[0] for name in frozen}
    assert not {name for name in changed if name.rpartition(".")[0] in still}, "statistics moved"


def test_without_augmentation_the_frozen_stages_see_every_image_once(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    made = prepared(technique__name="last_stages", technique__stages=1, schedule__epochs=3,
                    head__kind="linear")  # fmt: skip
    stem = next(iter(made.network.modules())).conv_stem
    passed = []
    stem.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    list(tuning.tuned(made, None))
    training = sum(made.parts == "train")
    assert 0 < sum(passed) < 3 * training


def test_rare_classes_are_changed_also_where_nothing_else_is(prepared: Prepared):
    chosen = {"technique__name": "last_stages", "technique__stages": 1}
    plain, more = (
        [s.loss for s in steps_of(happened(prepared(balance__method=method, **chosen)))
         if s.phase == "tune"] for method in ("oversample", "augment_minority")
    )  # fmt: skip
    assert len(plain) == len(more)
    assert not np.allclose(plain, more, rtol=0.05)


def test_kept_outputs_give_the_same_training_as_whole_passes(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    def losses(made: Work) -> list[float]:
        return [step.loss for step in steps_of(happened(made)) if step.phase == "tune"]

    chosen = {
        "technique__name": "last_stages",
        "technique__stages": 1,
        "optimizer__learning_rate": 1e-5,
    }
    kept = losses(prepared(**chosen))
    monkeypatch.setattr(stages, "split_at", lambda network, n_last: None)
    whole = losses(prepared(**chosen))
    # The frozen part computes in 16 bits where the processor has them: alike, not equal.
    np.testing.assert_allclose(kept, whole, rtol=0.02, atol=0.02)


def test_a_resumed_run_keeps_the_outputs_again_however_little_memory_is_free(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    made = prepared(technique__name="last_stages", technique__stages=1, schedule__epochs=3)
    for event in techniques.tuning(made, None):
        if isinstance(event, EpochEnded) and event.phase == "tune" and event.epoch == 1:
            break
    saved = checkpoint.load(made.folder / "checkpoint")
    total = psutil.virtual_memory().total
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total, available=0))
    again = prepared(technique__name="last_stages", technique__stages=1, schedule__epochs=3)
    events = list(techniques.tuning(again, saved))
    assert [e.epoch for e in events if isinstance(e, EpochEnded)] == [2, 3]


def test_a_stop_is_obeyed_in_the_range_test(prepared: Prepared):
    asked = itertools.count()
    made = prepared(lambda: next(asked) > 20, optimizer__learning_rate="find",
                    technique__name="from_scratch")  # fmt: skip
    steps = [s for s in steps_of(happened(made)) if s.phase == "find"]
    assert len(steps) < range_test.STEPS / 2
    assert made.stopped


def test_gradual_wakes_one_stage_more_each_time(prepared: Prepared):
    made = prepared(
        technique__name="gradual", technique__epochs_per_stage=1, schedule__epochs=3,
        schedule__name="constant",
    )  # fmt: skip
    n_stages = len(stages.stages(made.network))
    seen, before = [], None
    for event in techniques.tuning(made, None):
        if isinstance(event, EpochEnded) and event.phase == "tune":
            now = values(made)
            if before is not None:
                seen.append([bool(names_of(made, slice(k, k + 1)) & moved(before, now))
                             for k in range(n_stages)])  # fmt: skip
            before = now
    assert seen == [[k >= n_stages - epoch for k in range(n_stages)] for epoch in (1, 2, 3)]


def test_earlier_stages_take_the_smaller_steps(prepared: Prepared):
    made = prepared(technique__layer_decay=0.5)
    every = stages.stages(made.network)
    parts = tuning.parts_of(made.recipe, made.network, every)
    assert [scale for _, scale in parts[:-1]] == [0.5**k for k in reversed(range(len(every)))]
    assert parts[-1][1] == made.recipe.optimizer.head_multiplier


def test_a_head_start_learns_faster_than_none(prepared: Prepared):
    """From scratch the first loss is that of guessing; after a probe it is not."""
    probed = [e for e in happened(prepared()) if isinstance(e, EpochEnded) and e.phase == "tune"]
    scratch = [e for e in happened(prepared(technique__name="from_scratch"))
               if isinstance(e, EpochEnded)]  # fmt: skip
    assert probed[0].val["loss"] < scratch[0].val["loss"]


def test_fine_tuning_begins_where_its_probe_ended(prepared: Prepared):
    events = [e for e in happened(prepared()) if isinstance(e, EpochEnded)]
    best_probe = min(e.val["loss"] for e in events if e.phase == "head")
    tune = next(e for e in events if e.phase == "tune")
    assert tune.val["loss"] == pytest.approx(best_probe, abs=0.02)


def test_the_probe_is_the_same_whatever_the_optimizer(prepared: Prepared):
    def probe(**values: Any) -> list[float]:
        events = happened(prepared(**values))
        return [e.val["loss"] for e in events if isinstance(e, EpochEnded) and e.phase == "head"]

    assert probe(optimizer__name="sgd", optimizer__learning_rate=1e-4) == probe()


@pytest.mark.parametrize("kind", ["mlp", "logistic"])
def test_other_heads_go_on_learning_on_the_network(prepared: Prepared, kind: str):
    made = prepared(head__kind=kind)
    found = []
    for event in techniques.tuning(made, None):
        if isinstance(event, EpochEnded) and event.phase == "tune":
            head = networks.classifier_of(made.network)
            found.append(copy.deepcopy(head.state_dict()))
    assert any(not torch.equal(found[0][key], found[-1][key]) for key in found[0])


@pytest.mark.usefixtures("last_is_best")
def test_more_stages_than_there_are_is_all_of_them(prepared: Prepared):
    made = prepared(technique__name="last_stages", technique__stages=100)
    before = values(made)
    happened(made)
    assert names_of(made, slice(None)) <= moved(before, values(made))


@pytest.mark.parametrize("schedule", recipes.choices(dict(recipes.fields())["schedule.name"]))
@pytest.mark.parametrize("optimizer", recipes.choices(dict(recipes.fields())["optimizer.name"]))
def test_every_optimizer_goes_with_every_schedule(
    prepared: Prepared, optimizer: str, schedule: str
):
    made = prepared(optimizer__name=optimizer, schedule__name=schedule,
                    optimizer__learning_rate="auto", schedule__epochs=1)  # fmt: skip
    steps = [step for step in steps_of(happened(made)) if step.phase == "tune"]
    assert steps
    assert all(np.isfinite(step.loss) and step.rate > 0 for step in steps[:-1])


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"balance.method": "smote", "technique.name": "finetune"}, "smote"),
        ({"balance.method": "augment_minority"}, "augment_minority"),
        ({"balance.method": ["smote", "oversample"]}, "two balance fixes"),
        ({"balance.method": "focal", "head.kind": "svm"}, "focal"),
        ({"head.kind": "svm", "technique.name": "finetune"}, "svm"),
        ({"head.kind": "knn", "technique.name": "gradual"}, "knn"),
        ({"head.kind": "logistic", "technique.name": "from_scratch"}, "logistic"),
        ({"optimizer.learning_rate": "find", "head.kind": "logistic"}, "find"),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.0}, "nesterov"),
        ({"head.kind": "mlp", "head.batch_norm": True, "compute.batch_size": 1}, "batch_norm"),
        ({"technique.name": "from_scratch", "backbone.weights": "a.safetensors"}, "from_scratch"),
        ({"technique.name": "from_scratch", "technique.freeze_batch_norm": True}, "from_scratch"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(values: dict[str, Any], word: str):
    with pytest.raises(RecipeRefused, match=word) as refused:
        recipes.made(values)
    assert any(way in str(refused.value) for way in ("choose", "leave", "set"))


def test_stopping_in_the_head_keeps_no_half_network(prepared: Prepared):
    asked = iter([False] * 4 + [True] * 1000)
    made = prepared(lambda: next(asked), technique__name="feature_extraction", schedule__epochs=50)
    events = happened(made)
    assert made.stopped
    assert made.epochs < 50
    assert not [e for e in events if isinstance(e, Note) and e.level == "warning"]
    assert [e for e in events if isinstance(e, Progress)]
