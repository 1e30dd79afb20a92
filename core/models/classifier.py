"""The trained artefact: a network, its preprocessing, its class names and its temperature."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.augment import Preprocessing, fitted, normalized, picture
from core.errors import NotFound
from core.evaluation import averaging, familiarity, thresholds
from core.evaluation.familiarity import Familiar
from core.evaluation.scores import softmax
from core.evaluation.thresholds import Thresholds
from core.models import ensemble as ensembles
from core.models import heads
from core.models import network as networks
from core.settings import settings
from core.storage import Json, checked_id, read_json, sha256_of, whole_folder, write_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SUMS = "SHA256SUMS"
# Where an ensemble that is taken along has its members.
MEMBERS = "members"


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image: classes, the most probable first, and the time taken.

    decision: the class by the thresholds kept with it, "" where it is the most probable one.
    rarer_than: the share of validation images that are more like the training images than it is,
    None where the classifier remembers none. stranger: whether it is unlike anything in training.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    milliseconds: float
    decision: str = ""
    rarer_than: float | None = None
    stranger: bool = False

    @property
    def given(self) -> str:
        """The class that the image is given."""
        return self.decision or self.classes[0]


@dataclass(frozen=True)
class Classifier:
    """One torch network in evaluation mode with all that is needed to use it."""

    network: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    temperature: float
    backbone: str
    familiar: Familiar | None = None

    def inputs(self, content: bytes) -> Tensor:
        """A file's bytes as the network's input, 1×3×S×S float32, prepared as in validation.

        Raises: ImageRefused.
        """
        square = fitted(picture(content, self.preprocessing), self.preprocessing)
        return normalized(square[None], self.preprocessing)

    def probabilities(self, inputs: Tensor) -> np.ndarray:
        """Calibrated probabilities, N×C float32, of normalized pictures N×3×S×S."""
        return self.outputs(inputs)[0]

    def outputs(self, inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated probabilities N×C and features N×F, float32, of pictures N×3×S×S."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            features = networks.pooled(self.network, inputs.to(device))
            logits = networks.classifier_of(self.network)(features)
        return softmax(
            logits.float().cpu().numpy(), self.temperature
        ), features.float().cpu().numpy()

    def predict(
        self, content: bytes, limits: Thresholds | None = None, views: Sequence[str] = ()
    ) -> Prediction:
        """Classify one image file, by thresholds if there are any, averaged over views of it.

        Raises: ImageRefused.
        """
        started = time.perf_counter()
        square = fitted(picture(content, self.preprocessing), self.preprocessing)
        seen = normalized(averaging.seen(square, views), self.preprocessing)
        outputs, features = self.outputs(seen)
        probabilities = outputs.mean(axis=0, keepdims=True)
        found = probabilities[0]
        order = np.argsort(-found, kind="stable")
        given = self.classes[thresholds.decided(probabilities, self.classes, limits or {})[0]]
        rarer_than, stranger = self.familiar.judged(features[0]) if self.familiar else (None, False)
        return Prediction(
            tuple(self.classes[k] for k in order),
            tuple(float(found[k]) for k in order),
            (time.perf_counter() - started) * 1000,
            decision="" if given == self.classes[order[0]] else given,
            rarer_than=rarer_than,
            stranger=stranger,
        )


def save(classifier: Classifier, folder: Path, extra: Json) -> None:
    """Write a classifier in timm's Hugging Face layout, whole, with the hash of every file.

    `config.json` holds timm's fields (architecture, num_classes, label_names, pretrained_cfg) and,
    under `headstart`, preprocessing, temperature and `extra`.
    """
    from timm.models import save_for_hf

    # safetensors takes tensors in plain order only.
    network = copy.deepcopy(classifier.network).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    prepared = classifier.preprocessing
    config = {
        "pretrained_cfg": {
            "input_size": [3, prepared.size, prepared.size],
            "crop_pct": prepared.size / prepared.short_side,
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "interpolation": prepared.interpolation,
        },
        **told_of(
            classifier,
            {
                "model_args": model_args(network),
                "head": heads.spec_of(networks.classifier_of(network)),
                **extra,
            },
        ),
    }
    with whole_folder(folder) as aside:
        save_for_hf(network, aside, model_config=config, safe_serialization=True)
        seal(classifier, aside)


def told_of(classifier: Classifier, own: Json) -> Json:
    """What `config.json` says of every classifier, and under `headstart` what is its own."""
    return {
        "num_classes": len(classifier.classes),
        "label_names": list(classifier.classes),
        "headstart": {
            "backbone": classifier.backbone,
            "preprocessing": classifier.preprocessing.to_dict(),
            "temperature": classifier.temperature,
            **own,
        },
    }


def seal(classifier: Classifier, folder: Path) -> None:
    """Write what a classifier remembers, and last the hash of every file in its folder."""
    if classifier.familiar is not None:
        familiarity.write(classifier.familiar, folder)
    sums = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    write_json(folder / SUMS, sums)


@dataclass(frozen=True)
class Share:
    """A member of an ensemble: its run, its weight, and the hash of its network's file."""

    run: str
    weight: float
    sha256: str

    def folder_in(self, ensemble: Path) -> Path:
        """Its model's folder: that of its run, or the one that the ensemble brings along."""
        brought = ensemble / MEMBERS / checked_id(self.run)
        return brought if brought.exists() else settings().runs / self.run / "model"


def together(members: Sequence[Classifier], weights: Sequence[float]) -> Classifier:
    """One classifier that says the weighted mean of what several say; it remembers no images.

    Raises: RecipeRefused for members that see other cuts of a photo.
    """
    canvas = ensembles.canvas_of([one.preprocessing for one in members])
    views = [ensembles.View(canvas, one.preprocessing) for one in members]
    network = ensembles.Ensemble(
        [one.network for one in members], views, [one.temperature for one in members], weights
    )
    backbones = dict.fromkeys(one.backbone for one in members)
    return Classifier(network.eval(), canvas, members[0].classes, 1.0, ", ".join(backbones))


def save_together(classifier: Classifier, shares: Sequence[Share], folder: Path) -> None:
    """Write an ensemble: what it is, and which members it has; their weights stay with them."""
    config = {
        "architecture": "ensemble",
        **told_of(classifier, {"members": [asdict(one) for one in shares]}),
    }
    with whole_folder(folder) as aside:
        write_json(aside / CONFIG, config)
        seal(classifier, aside)


def shares_of(folder: Path) -> list[Share]:
    """The members of the classifier in a folder; none of a single network."""
    path = folder / CONFIG
    own = read_json(path)["headstart"] if path.exists() else {}
    return [Share(**one) for one in own.get("members", [])]


def load_together(shares: Sequence[Share], folder: Path) -> Classifier:
    """An ensemble from its members' folders.

    Raises: NotFound when a member is gone, damaged, or not what it was.
    """
    members = []
    for one in shares:
        own = one.folder_in(folder)
        if not (own / SUMS).exists():
            raise NotFound(f"The ensemble's member {one.run} is gone.", "Combine other runs.")
        if sums_of(own).get(WEIGHTS) != one.sha256:
            raise NotFound(
                f"The ensemble's member {one.run} was trained again since.", "Combine them again."
            )
        members.append(load(own))
    return together(members, [one.weight for one in shares])


def model_args(network: nn.Module) -> dict[str, Any]:
    """What `timm.create_model` must be told beside the name to make this network again."""
    config = networks.config_of(network)
    return {"img_size": config["input_size"][-1]} if config.get("fixed_input_size") else {}


def load(folder: Path) -> Classifier:
    """The classifier in a run's `model` folder, on the CPU, fresh: nobody else holds it.

    Raises: NotFound when there is none or a file of it is damaged.
    """
    if not (folder / SUMS).exists():
        raise NotFound(
            "This run has no model yet.", "It is written when a run finishes or is stopped."
        )
    for name, expected in sums_of(folder).items():
        if not (folder / name).exists() or sha256_of(folder / name) != expected:
            raise NotFound(f"The model's file {name} is damaged.", "Train the run again.")
    shares = shares_of(folder)
    config = read_json(folder / CONFIG)
    own = config["headstart"]
    if shares:
        return replace(
            load_together(shares, folder),
            temperature=float(own["temperature"]),
            familiar=familiarity.read(folder),
        )
    import timm
    from safetensors.torch import load_file

    network = timm.create_model(
        config["architecture"], num_classes=config["num_classes"], **own["model_args"]
    )
    if own.get("head"):
        networks.replace(network, networks.classifier_of(network), heads.from_spec(own["head"]))
    network.load_state_dict(load_file(folder / WEIGHTS))
    network.pretrained_cfg = {**networks.config_of(network), **config["pretrained_cfg"]}
    return Classifier(
        network.eval().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        Preprocessing.from_dict(own["preprocessing"]),
        tuple(config["label_names"]),
        float(own["temperature"]),
        own["backbone"],
        familiarity.read(folder),
    )


def sums_of(folder: Path) -> Json:
    """The hash of each file, as it was written.

    Raises: NotFound when that list itself is damaged.
    """
    try:
        return read_json(folder / SUMS)
    except ValueError as error:
        raise NotFound(f"The model's file {SUMS} is damaged.", "Train the run again.") from error


def shared(folder: Path) -> Classifier:
    """The classifier of a folder, kept in memory for everybody who only predicts."""
    sums = folder / SUMS
    return _shared(folder, sums.stat().st_mtime_ns if sums.exists() else 0)


def predicted(folder: Path, content: bytes) -> Prediction:
    """What the classifier of a folder says of an image file, as it is set to be used.

    Raises: ImageRefused, NotFound.
    """
    limits, views = thresholds.kept(folder), averaging.kept(folder)
    return shared(folder).predict(content, limits, views)


@lru_cache(maxsize=4)
def _shared(folder: Path, written: int) -> Classifier:
    return load(folder)
