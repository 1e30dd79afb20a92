"""The fields of a recipe, section by section, each with its range and its help.

The `description` of a field is its help text on the page, in `--help` and in the docs, so it is
written for somebody who has never trained a network. `when` names values of other fields:
without any of them a field says nothing, and the page hides it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threads = Annotated[int, Field(ge=1, le=256)]
Images = Annotated[int, Field(ge=1, le=4096)]
AUTO: Literal["auto"] = "auto"


def when(field: str, *values: Any) -> dict[str, Any]:
    """A field's note that it only counts where another field has one of these values."""
    return {"when": {field: list(values)}}


# Values of other fields, one of which several fields below depend on.
TUNED = when("technique.name", "last_stages", "gradual", "finetune", "from_scratch")
IN_STEPS: dict[str, Any] = {"when": {"head.kind": ["linear", "mlp"], **TUNED["when"]}}


class Section(BaseModel):
    """A group of fields; unknown names are refused, so that a typing error is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """Which images are learned from, and which are kept back to judge the result."""

    split: tuple[Share, Share, Share] = Field(
        (0.70, 0.15, 0.15),
        description="Shares of the images for training, validation and test. Validation images "
        "choose the best epoch; test images are looked at once, at the very end. A split that the "
        "dataset brings itself is kept.",
    )
    fold: str = Field(
        "",
        pattern=r"^(\d{1,2}/\d{1,2}(#\d{1,2})?|group:.+)?$",
        max_length=200,
        description="Empty: one split, by the shares above. 2/5: the test part is the second of "
        "five folds; 2/5#1: of another drawing; group:NAME: that group is the test part. "
        "Cross-validation sets it.",
    )
    keep_test: bool = Field(
        False,
        description="Whether the folds leave out the test part of the split above, so that it is "
        "still there to judge what is chosen by them.",
    )

    @model_validator(mode="after")
    def _shares_make_one(self) -> Data:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split[:2]) <= 0:
            raise ValueError(
                "the three shares must add up to 1, with some images for training and validation"
            )
        return self


class Image(Section):
    """How a photo of any shape becomes the square that the backbone expects."""

    size: int | Literal["auto"] = Field(
        AUTO,
        description="Side of the square, in pixels, that the backbone sees. Larger shows finer "
        "detail and costs time with its square. auto: the size that the backbone was trained on.",
    )
    fit: Literal["crop", "squash", "letterbox"] = Field(
        "crop",
        description="crop: the middle square; letterbox: the whole photo with gray bars; "
        "squash: the whole photo, its shape distorted.",
    )

    @model_validator(mode="after")
    def _size_in_range(self) -> Image:
        if self.size != AUTO and not 32 <= self.size <= 1024:
            raise ValueError("image.size must be auto or lie between 32 and 1024 pixels")
        return self


class Backbone(Section):
    """The pretrained network that gives the head start."""

    name: str = Field(
        "tf_efficientnet_lite0",
        description="Name of the network in timm. Larger ones know more and take longer.",
    )
    weights: str = Field(
        "pretrained",
        description="pretrained: what the network learned on large photo collections; or the path "
        "of a .safetensors file with weights for it.",
    )


class Technique(Section):
    """How much of the backbone is allowed to change."""

    name: Literal["feature_extraction", "last_stages", "gradual", "finetune", "from_scratch"] = (
        Field(
            "feature_extraction",
            description="feature_extraction: the backbone stays as it is and only a new head "
            "learns, in seconds. last_stages: after that, the last stages go on learning. gradual: "
            "the same, one stage more every few epochs. finetune: all layers at once, gently; "
            "usually best, and takes minutes. from_scratch: no head start at all, to see what it "
            "was worth.",
        )
    )
    stages: int = Field(
        2,
        ge=1,
        le=100,
        description="How many of the last stages learn; the earlier ones, which know edges and "
        "textures, stay as they are. Without augmentation their part is computed only once.",
        json_schema_extra=when("technique.name", "last_stages"),
    )
    epochs_per_stage: int = Field(
        2,
        ge=1,
        le=1000,
        description="Epochs after which one stage more begins to learn (Howard and Ruder 2018).",
        json_schema_extra=when("technique.name", "gradual"),
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        AUTO,
        description="How much slower each earlier stage learns: 0.8 is 80 % of the rate of the "
        "stage after it; 1 is the same rate everywhere. auto: 0.85, and 1 from scratch.",
        json_schema_extra=TUNED,
    )
    freeze_batch_norm: bool | Literal["auto"] = Field(
        AUTO,
        description="Keep the backbone's batch-norm statistics while fine-tuning. auto: with "
        "batches under 16 or fewer than 10,000 training images: own statistics are too noisy then.",
        json_schema_extra=TUNED,
    )


class Head(Section):
    """The new last layer, which knows your classes."""

    kind: Literal["linear", "mlp", "logistic", "svm", "knn"] = Field(
        "linear",
        description="linear: one weighted sum of the features for each class. mlp: a hidden layer "
        "before it. logistic: the linear head solved for at once. svm: the widest margin between "
        "classes. knn: the classes of the most similar training images.",
    )
    hidden: int = Field(
        256,
        ge=2,
        le=8192,
        description="Units of the hidden layer.",
        json_schema_extra=when("head.kind", "mlp"),
    )
    activation: Literal["relu", "gelu", "sigmoid", "tanh"] = Field(
        "relu",
        description="What bends the hidden layer's sums; relu is the usual choice.",
        json_schema_extra=when("head.kind", "mlp"),
    )
    dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the hidden units switched off at random in every step.",
        json_schema_extra=when("head.kind", "mlp"),
    )
    batch_norm: bool = Field(
        False,
        description="Bring each hidden unit to a common scale, batch by batch (Ioffe and Szegedy "
        "2015).",
        json_schema_extra=when("head.kind", "mlp"),
    )
    kernel: Literal["linear", "rbf"] = Field(
        "rbf",
        description="linear: a flat border between classes; rbf: a border that may bend.",
        json_schema_extra=when("head.kind", "svm"),
    )
    c: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="How much each training image may bend the border: small is smoother, large "
        "follows single images.",
        json_schema_extra=when("head.kind", "logistic", "svm"),
    )
    neighbors: int = Field(
        10,
        ge=1,
        le=1000,
        description="How many similar training images vote, nearer ones with more weight.",
        json_schema_extra=when("head.kind", "knn"),
    )


class Balance(Section):
    """What is done so that rare classes are learned as well as common ones."""

    method: Literal[
        "none", "class_weights", "focal", "oversample", "undersample", "augment_minority", "smote"
    ] = Field(
        "none",
        description="class_weights: mistakes on rare classes cost more. focal: hard images cost "
        "more, and rare classes too (Lin et al. 2017). oversample: images of rare classes are seen "
        "more often. undersample: of common classes only a part is seen in each epoch. "
        "augment_minority: rare classes are seen more often and more strongly changed. smote: new "
        "features between those of neighbors (Chawla et al. 2002). One at a time: two together "
        "overshoot.",
    )
    strength: Share = Field(
        1.0,
        description="How far toward equal classes: 1 is all the way, 0.5 the square root of it.",
        json_schema_extra=when(
            "balance.method",
            "class_weights", "focal", "oversample", "undersample", "augment_minority", "smote",
        ),
    )  # fmt: skip

    @field_validator("method", mode="before")
    @classmethod
    def _one_at_a_time(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            raise ValueError(
                "two balance fixes at once correct the same fault twice, and the model then says "
                "little but the rare classes; choose one"
            )
        return value
