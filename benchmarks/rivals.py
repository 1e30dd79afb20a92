"""What people train with otherwise, from the same weights: `python -m benchmarks.rivals --help`.

Both are written from their descriptions with the settings that those name; only the network, the
images and the number of epochs are given. Each scores the test images once, at its end, and prints
how many it got right.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.recipe import changed, preset

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

Counts = dict[str, int]
# Both resize to this and cut out what the network was trained on.
SHORT_SIDE, SIZE = 256, 224
WORKERS = 2
# Of PyTorch's "Transfer Learning for Computer Vision Tutorial", for fine-tuning all layers.
TUTORIAL = {"batch": 4, "rate": 0.001, "momentum": 0.9, "step_epochs": 7, "step_factor": 0.1}
# fastai's own batch is 64: two steps an epoch on small sets, so half of it.
FASTAI_BATCH, FASTAI_EPOCHS = 32, 3


def tutorial(folder: Path, seed: int, epochs: int) -> Counts:
    """PyTorch's transfer-learning tutorial: SGD on all layers, the best epoch kept."""
    import torch
    from torch import optim

    torch.manual_seed(seed)
    parts = loaders(folder)
    network = pretrained(len(parts["train"].dataset.classes), seed)
    optimizer = optim.SGD(network.parameters(), TUTORIAL["rate"], TUTORIAL["momentum"])
    schedule = optim.lr_scheduler.StepLR(
        optimizer, TUTORIAL["step_epochs"], TUTORIAL["step_factor"]
    )
    best, weights = -1.0, network.state_dict()
    for _ in range(epochs):
        for loss in losses(network, parts["train"]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        counts = scored(network, parts["val"])
        if counts["ncorrect"] / counts["n"] > best:
            best, weights = counts["ncorrect"] / counts["n"], copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    return scored(network, parts["test"])


def pretrained(n_classes: int, seed: int) -> nn.Module:
    """The very network that Headstart starts from."""
    from core.models import network as networks

    recipe = changed(preset("quick"), {"seed": seed})
    return networks.create(recipe, n_classes, pretrained=True)


def loaders(folder: Path) -> dict[str, DataLoader]:
    """Batches of each part of a folder of train, val and test, with a folder for each class."""
    import torch
    from torchvision import datasets
    from torchvision import transforms as T

    config = pretrained(2, 0).pretrained_cfg
    ends = [T.ToTensor(), T.Normalize(config["mean"], config["std"])]
    random = T.Compose([T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(), *ends])
    plain = T.Compose([T.Resize(SHORT_SIDE), T.CenterCrop(SIZE), *ends])
    changes = {"train": random, "val": plain, "test": plain}
    return {
        part: torch.utils.data.DataLoader(
            datasets.ImageFolder(folder / part, change),
            batch_size=TUTORIAL["batch"],
            shuffle=part == "train",
            num_workers=WORKERS,
        )
        for part, change in changes.items()
    }


def losses(network: nn.Module, batches: DataLoader) -> Iterator[Any]:
    """The loss of each batch, in training mode."""
    from torch.nn.functional import cross_entropy

    network.train()
    for inputs, labels in batches:
        yield cross_entropy(network(inputs), labels)


def scored(network: nn.Module, batches: DataLoader) -> Counts:
    """How many images the network gets right, and of how many."""
    import torch

    network.eval()
    ncorrect = n = 0
    with torch.no_grad():
        for inputs, labels in batches:
            ncorrect += int((network(inputs).argmax(dim=1) == labels).sum())
            n += len(labels)
    return {"ncorrect": ncorrect, "n": n}


def fastai(folder: Path, seed: int, epochs: int) -> Counts:
    """`fine_tune` of fastai: an epoch for its head, then so many for all layers."""
    from fastai.vision import all as vision

    vision.set_seed(seed)
    body = pretrained(2, seed)
    config = body.pretrained_cfg
    batches = vision.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        item_tfms=vision.Resize(SHORT_SIDE),
        batch_tfms=[
            *vision.aug_transforms(size=SIZE),
            vision.Normalize.from_stats(config["mean"], config["std"]),
        ],
        bs=FASTAI_BATCH,
        num_workers=WORKERS,
    )
    learner = learner_of(vision, batches, body)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        files = vision.get_image_files(folder / "test")
        test = batches.test_dl(files, with_labels=True)
        probabilities, labels = learner.get_preds(dl=test)
    return {"ncorrect": int((probabilities.argmax(dim=1) == labels).sum()), "n": len(files)}


def learner_of(vision: Any, batches: Any, network: nn.Module) -> Any:
    """What `vision_learner` makes of a network of timm; it would ask the hub for the weights."""
    from fastai.vision.learner import TimmBody, add_head, default_split

    network.reset_classifier(0)
    body = TimmBody(network)
    whole = add_head(body, network.num_features, batches.c, pool=body.needs_pool)
    learner = vision.Learner(batches, whole, splitter=default_split, path=batches.path)
    learner.freeze()
    return learner


RIVALS: dict[str, Callable[[Path, int, int], Counts]] = {"tutorial": tutorial, "fastai": fastai}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RIVALS)}.")],
    folder: Annotated[Path, typer.Argument(help="With train, val and test, and classes in each.")],
    seed: int = 0,
    epochs: int = 5,
) -> None:
    """Train and print how many of the test images are classified correctly."""
    print(json.dumps(RIVALS[name](folder, seed, epochs)))


if __name__ == "__main__":
    typer.run(main)
