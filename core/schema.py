"""The fields of a recipe, section by section, each with its range and its help.

The `description` of a field is its help text on the page, in `--help` and in the docs, so it is
written for somebody who has never trained a network.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threads = Annotated[int, Field(ge=1, le=256)]
AUTO: Literal["auto"] = "auto"


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


class Augmentation(Section):
    """Random changes to each training image, new in every epoch, that leave its class as it is.

    They apply to fine-tuning and training from scratch; feature extraction looks at every image
    once, as it is.
    """

    horizontal_flip: Share = Field(
        0.5,
        description="Chance of mirroring left and right. Set 0 where a mirror image changes "
        "the class, as with letters or signs.",
    )
    vertical_flip: Share = Field(
        0.0, description="Chance of turning upside down. For views from above or a microscope."
    )
    rotation: float = Field(
        0.0, ge=0, le=180, description="Largest turn to either side, in degrees."
    )
    translation: float = Field(
        0.0, ge=0, le=0.5, description="Largest shift, as a share of the side."
    )
    zoom: float = Field(
        0.0, ge=0, le=0.9, description="Largest change of scale, in or out: 0.2 is up to 20 %."
    )
    random_crop: Share = Field(
        0.35,
        description="Smallest share of the area that a random crop keeps; 1 switches it off. "
        "Small values show details and may cut the object away.",
    )
    color_jitter: Share = Field(
        0.1, description="Strength of random brightness, contrast and saturation."
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Standard deviation of random noise, as a share of the "
        "full brightness range. For grainy cameras.",
    )


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

    name: Literal["feature_extraction", "finetune", "from_scratch"] = Field(
        "feature_extraction",
        description="feature_extraction: the backbone stays as it is and only a new head learns, "
        "in seconds. finetune: after that, all layers go on learning, gently; usually better, and "
        "takes minutes. from_scratch: no head start at all, to see what it was worth.",
    )
    freeze_batch_norm: bool | Literal["auto"] = Field(
        AUTO,
        description="Keep the backbone's batch-norm statistics while fine-tuning. auto: with "
        "batches under 16 or fewer than 10,000 training images: own statistics are too noisy then.",
    )


class Head(Section):
    """The new last layer, which knows your classes."""

    kind: Literal["linear"] = Field(
        "linear", description="linear: one weighted sum of the features for each class."
    )


class Optimizer(Section):
    """How each step follows the error downhill."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = Field(
        "adamw",
        description="adamw suits nearly everything; sgd wants larger learning rates.",
    )
    learning_rate: Rate | Literal["auto"] = Field(
        AUTO,
        description="Size of a step. auto: a value that suits the technique and the optimizer. "
        "Too large and the loss jumps; too small and nothing is learned.",
    )
    head_multiplier: float = Field(
        10.0,
        gt=0,
        le=1000,
        description="In fine-tuning, how many times faster the head learns than the backbone.",
    )
    weight_decay: float = Field(
        0.02, ge=0, le=1, description="Pull of all weights toward zero, against learning by heart."
    )
    clip: float = Field(
        1.0,
        ge=0,
        description="Longest step that one bad batch may cause (norm of the gradient); "
        "0 is no limit.",
    )


class Schedule(Section):
    """How long to learn, and how the learning rate changes on the way."""

    name: Literal["cosine", "constant"] = Field(
        "cosine", description="cosine: falls smoothly to zero; constant: stays as it is."
    )
    epochs: int = Field(10, ge=1, le=10_000, description="How often every training image is seen.")
    warmup: Share = Field(
        0.1, description="Share of the training in which the rate rises from zero."
    )


class Regularization(Section):
    """What keeps the network from learning the training images by heart."""

    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the features hidden at random in every step."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="How much doubt is kept about every label; 0.1 helps where "
        "some labels may be wrong.",
    )


class Stopping(Section):
    """When to stop before the last epoch, and which epoch is the best."""

    patience: int = Field(
        0, ge=0, description="Stop after this many epochs without a better one; 0 never stops."
    )
    metric: Literal["val_loss", "val_accuracy", "val_macro_f1"] = Field(
        "val_loss",
        description="What makes an epoch the best one, measured on the validation images.",
    )


class Compute(Section):
    """The machine's part. It changes the time, and the figures only in their last digits."""

    batch_size: int = Field(32, ge=1, le=4096, description="Images in one step.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        AUTO,
        description="Number format in training steps. auto: the faster one, found by a few "
        "measured steps. Validation and test figures always come from fp32.",
    )
    device: str = Field(
        AUTO,
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto: the graphics processor if there is one; or cpu, cuda, cuda:1, mps.",
    )
    workers: Threads | Literal["auto"] = Field(
        AUTO, description="Threads that decode and augment. auto: as many as processor cores."
    )


class Finish(Section):
    """What is done once with the best epoch."""

    calibrate: bool = Field(
        True,
        description="Correct overconfident probabilities on the validation images (temperature "
        "scaling). It never changes which class comes first.",
    )


class Recipe(Section):
    """Everything one training depends on.

    Same recipe, same revision of the data and same machine give the same result.
    """

    data: Data = Data()
    image: Image = Image()
    augmentation: Augmentation = Augmentation()
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
    def _weights_go_with_technique(self) -> Recipe:
        if self.technique.name == "from_scratch" and self.backbone.weights != "pretrained":
            raise ValueError(
                "technique.name from_scratch starts without weights, but backbone.weights names a "
                "file; choose finetune to start from that file"
            )
        return self
