"""A recipe: its sections together, and the combinations of values that make no sense."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field, model_validator

from core.policies import POLICIES, Augmentation
from core.sections import AUTO, Backbone, Balance, Data, Head, Image, Section, Technique
from core.sections_of_learning import (
    Compute,
    Finish,
    Optimizer,
    Regularization,
    Schedule,
    Stopping,
)

__all__ = [
    "AUTO", "CLASHES", "FITTED", "POLICIES", "Augmentation", "Backbone", "Balance", "Compute",
    "Data", "Finish", "Head", "Image", "Optimizer", "Recipe", "Regularization", "Schedule",
    "Section", "Stopping", "Technique",
]  # fmt: skip

# Heads that are solved for at once on features, not learned step by step.
FITTED = ("logistic", "svm", "knn")


class Recipe(Section):
    """Everything one training depends on.

    Same recipe, same revision of the data and same machine give the same result.
    """

    data: Data = Data()
    image: Image = Image()
    augmentation: Augmentation = Augmentation()
    balance: Balance = Balance()
    backbone: Backbone = Backbone()
    technique: Technique = Technique()
    head: Head = Head()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    regularization: Regularization = Regularization()
    stopping: Stopping = Stopping()
    compute: Compute = Compute()
    finish: Finish = Finish()
    seed: int = Field(
        0, ge=0, lt=2**31, description="Start of all randomness; the same seed, the same result."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Recipe:
        for clashes, sentence in CLASHES:
            if clashes(self):
                raise ValueError(sentence)
        return self

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone stays as it is and only a head on its features learns."""
        return self.technique.name == "feature_extraction"

    @property
    def processes(self) -> int:
        """How many processes train it: a head on features needs one alone."""
        return 1 if self.is_frozen else self.compute.processes

    @property
    def is_pretrained(self) -> bool:
        """Whether training starts from weights that have learned before."""
        return self.technique.name != "from_scratch"


# Each is a question and, where the answer is yes, why that makes no sense and what does.
CLASHES: tuple[tuple[Callable[[Recipe], bool], str], ...] = (
    (
        lambda r: not r.is_pretrained and r.backbone.weights != "pretrained",
        "technique.name from_scratch starts without weights, but backbone.weights names a file; "
        "choose finetune to start from that file",
    ),
    (
        lambda r: not r.is_pretrained and r.technique.freeze_batch_norm is True,
        "technique.freeze_batch_norm keeps pretrained statistics, and from_scratch has none; leave "
        "it at auto",
    ),
    (
        lambda r: r.balance.method == "smote" and not r.is_frozen,
        "balance.method smote makes new features, and only feature_extraction learns from features "
        "alone: fine-tuning needs pictures; choose oversample, class_weights or augment_minority",
    ),
    (
        lambda r: r.balance.method == "augment_minority" and r.is_frozen,
        "balance.method augment_minority needs a technique that augments, and feature_extraction "
        "sees every image once as it is; choose oversample or smote",
    ),
    (
        lambda r: r.balance.method == "focal" and r.head.kind in FITTED,
        "balance.method focal is a loss for learning in steps, and this head.kind is solved for at "
        "once; choose class_weights, or head.kind linear or mlp",
    ),
    (
        lambda r: r.head.kind in ("svm", "knn") and not r.is_frozen,
        "head.kind svm and knn are solved for at once on features that stay as they are, which "
        "only feature_extraction leaves so; choose linear, mlp or logistic",
    ),
    (
        lambda r: r.head.kind == "logistic" and not r.is_pretrained,
        "head.kind logistic is solved for on a pretrained backbone's features, and from_scratch "
        "has none; choose linear or mlp",
    ),
    (
        lambda r: r.optimizer.learning_rate == "find" and r.head.kind in FITTED and r.is_frozen,
        "optimizer.learning_rate find looks for the size of steps, and this head.kind takes none; "
        "leave it at auto",
    ),
    (
        lambda r: r.optimizer.name == "sgd" and r.optimizer.nesterov and r.optimizer.momentum == 0,
        "optimizer.nesterov looks ahead along the momentum, which is 0; set optimizer.momentum to "
        "0.9 or optimizer.nesterov to false",
    ),
    (
        lambda r: r.head.kind == "mlp" and r.head.batch_norm and r.compute.batch_size == 1,
        "head.batch_norm needs several images in a batch, and compute.batch_size is 1; set it to 2 "
        "or more",
    ),
)
