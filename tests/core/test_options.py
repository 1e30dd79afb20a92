"""Every field of a recipe, and every value of a list of values, changes what a training does.

Each case trains a tiny network twice on the same photos, once without and once with the value, and
compares all figures of all epochs and every weight. What a value should change is said in the tests
of its own part; here it is only made sure that none is accepted and then forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from core import recipe as recipes
from core.data import importing
from core.data.dataset import Dataset
from core.storage import new_id
from core.training.events import Ended, EpochEnded, steps_of
from core.training.fit import fit
from tests.conftest import make_photo

SMALL = {
    "backbone.name": "test_efficientnet", "image.size": 32, "schedule.epochs": 2,
    "data.split": [0.6, 0.2, 0.2], "compute.batch_size": 4, "technique.name": "feature_extraction",
    "augmentation.policy": "none", "compute.precision": "fp32", "optimizer.learning_rate": 0.003,
}  # fmt: skip
TUNED = {"technique.name": "finetune"}
MLP, SVM, KNN = {"head.kind": "mlp"}, {"head.kind": "svm"}, {"head.kind": "knn"}
SGD = {"optimizer.name": "sgd"}
LONGER = {"schedule.epochs": 4}
BY_ACCURACY = {"stopping.metric": "val_accuracy"}
FALLING = {**LONGER, "schedule.name": "plateau", "optimizer.learning_rate": 1.0}
Case = tuple[dict[str, Any], Any]  # the other values, and the value that must count

# What must count, by field.
CASES: dict[str, list[Case]] = {
    "data.split": [({}, [0.4, 0.4, 0.2])],
    "data.fold": [({}, "1/3")],
    "data.keep_test": [({"data.fold": "1/3"}, True)],
    "image.size": [({}, 48)],
    "image.fit": [({}, "letterbox"), ({}, "squash")],
    "augmentation.policy": [
        (TUNED, name) for name in ("light", "medium", "strong", "TrivialAugment", "RandAugment")
    ],
    "augmentation.magnitude": [({**TUNED, "augmentation.policy": "RandAugment"}, 1.0)],
    **{
        f"augmentation.{name}": [(TUNED, value)]
        for name, value in {
            "horizontal_flip": 1.0, "vertical_flip": 1.0, "rotation": 45.0, "translation": 0.3,
            "zoom": 0.5, "random_crop": 0.3, "perspective": 0.3, "brightness": 0.5,
            "contrast": 0.5, "saturation": 0.5, "hue": 0.3, "grayscale": 1.0, "blur": 3.0,
            "noise": 0.2, "erasing": 1.0, "mixup": 1.0, "cutmix": 1.0,
        }.items()
    },
    "balance.method": [
        *(({}, name) for name in ("class_weights", "focal", "oversample", "undersample", "smote")),
        *((TUNED, name) for name in ("class_weights", "focal", "oversample", "augment_minority")),
        *((context, "class_weights") for context in ({"head.kind": "logistic"}, SVM, KNN)),
        ({"head.kind": "logistic"}, "oversample"),
        (SVM, "smote"),
    ],
    "balance.strength": [
        ({"balance.method": name}, 0.4)
        for name in ("class_weights", "focal", "oversample", "undersample", "smote")
    ] + [({**TUNED, "balance.method": "augment_minority"}, 0.4)],
    "backbone.name": [({"technique.name": "from_scratch"}, "test_resnet")],
    "backbone.weights": [({}, "OTHER")],
    "technique.name": [
        ({**LONGER}, name) for name in ("last_stages", "gradual", "finetune", "from_scratch")
    ],
    "technique.stages": [({"technique.name": "last_stages"}, 1)],
    "technique.epochs_per_stage": [({"technique.name": "gradual"}, 1)],
    "technique.layer_decay": [(TUNED, 0.3)],
    "technique.freeze_batch_norm": [(TUNED, False), ({"technique.name": "last_stages"}, False)],
    "head.kind": [
        *(({}, name) for name in ("mlp", "logistic", "svm", "knn")),
        *((TUNED, name) for name in ("mlp", "logistic")),
        ({"technique.name": "from_scratch"}, "mlp"),
    ],
    "head.hidden": [(MLP, 16)],
    "head.activation": [(MLP, name) for name in ("gelu", "sigmoid", "tanh")],
    "head.dropout": [(MLP, 0.7)],
    "head.batch_norm": [(MLP, True)],
    "head.kernel": [(SVM, "linear")],
    "head.c": [(SVM, 0.01), ({"head.kind": "logistic"}, 0.01)],
    "head.neighbors": [(KNN, 3)],
    "optimizer.name": [
        (context, name) for name in ("adam", "sgd", "rmsprop")
        for context in ({"optimizer.weight_decay": 0.5}, TUNED)
    ],
    "optimizer.learning_rate": [({}, 0.03), ({}, "find"), (TUNED, 0.03), (TUNED, "find")],
    "optimizer.head_multiplier": [(TUNED, 2.0)],
    "optimizer.momentum": [
        (SGD, 0.5), ({**SGD, "schedule.name": "one_cycle"}, 0.5),
        ({"optimizer.name": "rmsprop"}, 0.5)],
    "optimizer.nesterov": [(SGD, False)],
    "optimizer.weight_decay": [({}, 0.9), (TUNED, 0.9)],
    "optimizer.l1": [({}, 0.01), (TUNED, 0.01)],
    "optimizer.clip": [(SGD, 0.01)],
    "schedule.name": [
        *((LONGER, name) for name in ("constant", "step", "exponential", "one_cycle")),
        ({**LONGER, "optimizer.learning_rate": 1.0}, "plateau"),
    ],
    "schedule.epochs": [({}, 3)],
    "schedule.min_steps": [({}, 30)],
    "schedule.warmup": [({}, 0.9)],
    "schedule.factor": [
        *(({**LONGER, "schedule.name": name}, 0.5) for name in ("step", "exponential")),
        ({**FALLING, "schedule.patience": 1}, 0.5),
    ],
    "schedule.drops": [({**LONGER, "schedule.name": "step"}, 1)],
    "schedule.patience": [(FALLING, 1)],
    "regularization.dropout": [({}, 0.5), (TUNED, 0.5), (MLP, 0.5)],
    # The tiny EfficientNet has no block that could be left out.
    "regularization.drop_path": [
        ({"technique.name": "from_scratch", "backbone.name": "test_convnext"}, 0.5)
    ],
    "regularization.label_smoothing": [({}, 0.3), (TUNED, 0.3)],
    "regularization.ema": [({}, 0.9), (TUNED, 0.9)],
    "stopping.patience": [({**LONGER, "optimizer.learning_rate": 1.0, "schedule.epochs": 9}, 1)],
    "stopping.metric": [
        ({**LONGER, "optimizer.learning_rate": 1.0}, name)
        for name in ("val_accuracy", "val_macro_f1")
    ],
    "stopping.min_delta": [({}, 1.0)],
    "compute.batch_size": [
        ({}, 8), ({}, "auto"), (TUNED, 8),
        # So few photos make a batch of 4 again; the rate that was left to us follows.
        ({**TUNED, "optimizer.learning_rate": "auto"}, "auto"),
    ],
    "compute.accumulate": [({}, 2), (TUNED, 2)],
    "compute.precision": [(TUNED, "bf16")],
    # Calibrated are classifiers that ten validation images or more show to be too sure: wasps look
    # like ants here, and a head that is hardly held back is sure all the same.
    "finish.calibrate": [
        ({"head.kind": "logistic", "head.c": 1000.0, "data.split": [0.5, 0.3, 0.2]}, False)],
    # By a loss that falls all the way no earlier epoch would be let into the soup.
    "finish.soup": [
        ({**LONGER, **BY_ACCURACY}, True), ({**TUNED, **LONGER, **BY_ACCURACY}, True)],
    "seed": [({}, 1)],
}  # fmt: skip
# auto is one of the others; fp16 needs a graphics processor.
NOT_HERE = {"compute.precision": {"auto", "fp16"}}
# These say where and by how many hands the work is done, which must not change what comes out.
SAME = {
    "compute.device": [({}, "cpu")],
    "compute.workers": [(TUNED, 1), (TUNED, 3)],
    "compute.processes": [({}, 2)],  # Where the network itself learns, test_team looks at it.
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with 46 photos of three classes, one of them rare, and two files of weights."""
    home = tmp_path_factory.mktemp("options")
    for kind, (label, n) in enumerate({"ants": 20, "bees": 18, "wasps": 8}.items()):
        (home / "photos" / label).mkdir(parents=True)
        for seed in range(n):
            size = [(64, 48), (48, 64), (40, 40), (90, 50)][seed % 4]
            content = make_photo(seed, size=size, kind=kind % 2)
            (home / "photos" / label / f"{seed:02d}.jpg").write_bytes(content)
    for number, name in enumerate(("weights", "OTHER")):
        torch.manual_seed(number)
        network = timm.create_model("test_efficientnet", num_classes=0)
        save_file(network.state_dict(), home / f"{name}.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(home))
        importing.import_all(home / "photos")
    yield home


_known: dict[str, str] = {}


def outcome(home: Path, values: dict[str, Any]) -> str:
    """One hash of all that a training with these values told and made; trained at most once."""
    given = {**SMALL, **values}
    if given["technique.name"] != "from_scratch":
        weights = given.get("backbone.weights", "weights")
        given["backbone.weights"] = str(home / f"{weights}.safetensors")
    key = repr(sorted(given.items()))
    if key not in _known:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADSTART_HOME", str(home))
            _known[key] = trained(importing.import_all(home / "photos"), given, home)
    return _known[key]


def trained(dataset: Dataset, values: dict[str, Any], home: Path) -> str:
    """Train, and hash the events that do not tell of time, and the weights."""
    folder = home / "made" / new_id()
    folder.mkdir(parents=True)
    events = list(fit(dataset, recipes.made(values), folder))
    ended = events[-1]
    assert isinstance(ended, Ended), ended
    assert ended.reason == "finished", ended
    told = [
        (e.phase, e.epoch, e.val, e.train, e.learning_rate) for e in events
        if isinstance(e, EpochEnded)
    ]  # fmt: skip
    # What was only tried, as in a range test, must have come to something.
    steps = [step for step in steps_of(events) if step.phase != "find"]
    facts = repr((told, steps, ended.result["best_epoch"], ended.result["test"],
                  ended.result["temperature"]))  # fmt: skip
    made = (folder / "model" / "model.safetensors").read_bytes()
    return hashlib.sha256(facts.encode() + made).hexdigest()


def listed(cases: dict[str, list[Case]]) -> list[Any]:
    """Each case with a name of its own."""
    return [
        pytest.param(
            name, context, value, id=f"{name}={value} {' '.join(map(str, context.values()))}"
        )
        for name, several in cases.items()
        for context, value in several
    ]


@pytest.mark.parametrize(("name", "context", "value"), listed(CASES))
def test_a_value_changes_what_the_training_does(
    room: Path, name: str, context: dict[str, Any], value: Any
):
    assert outcome(room, context) != outcome(room, {**context, name: value})


@pytest.mark.parametrize(("name", "context", "value"), listed(SAME))
def test_the_machines_part_changes_nothing(
    room: Path, name: str, context: dict[str, Any], value: Any
):
    assert outcome(room, context) == outcome(room, {**context, name: value})


def test_the_same_recipe_gives_the_same_training_again(room: Path):
    first = outcome(room, TUNED)
    del _known[next(key for key, found in _known.items() if found == first)]
    assert outcome(room, TUNED) == first


def test_every_field_and_every_value_has_a_case():
    cases = {**CASES, **SAME}
    assert set(cases) == {name for name, _ in recipes.fields()}
    for name, info in recipes.fields():
        wanted = set(recipes.choices(info)) - {str(SMALL.get(name, info.default))}
        tried = {value for _, value in cases[name] if isinstance(value, str)}
        assert wanted - NOT_HERE.get(name, set()) <= tried, name
