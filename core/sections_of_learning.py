"""The sections of a recipe that say how the steps are taken, when to stop, and on what machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.sections import AUTO, IN_STEPS, TUNED, Images, Rate, Section, Share, Threads, when


class Optimizer(Section):
    """How each step follows the error downhill."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = Field(
        "adamw",
        description="adamw suits nearly everything; sgd wants larger learning rates.",
        json_schema_extra=IN_STEPS,
    )
    learning_rate: Rate | Literal["auto", "find"] = Field(
        AUTO,
        description="Size of a step. auto: a value that suits the technique and the optimizer. "
        "find: measured on your images by a range test (Smith 2017), which takes some more steps. "
        "Too large and the loss jumps; too small and nothing is learned.",
        json_schema_extra=IN_STEPS,
    )
    head_multiplier: float = Field(
        10.0,
        gt=0,
        le=1000,
        description="In fine-tuning, how many times faster the head learns than the backbone.",
        json_schema_extra=when("technique.name", "last_stages", "gradual", "finetune"),
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="How much of the last steps' direction is kept.",
        json_schema_extra=when("optimizer.name", "sgd", "rmsprop"),
    )
    nesterov: bool = Field(
        True,
        description="Look ahead along the momentum before each step (Nesterov 1983).",
        json_schema_extra=when("optimizer.name", "sgd"),
    )
    weight_decay: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Pull of all weights toward zero (L2), against learning by heart.",
        json_schema_extra=IN_STEPS,
    )
    l1: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Penalty on the size of every weight that learns (L1): brings weights that do "
        "not help close to zero. Useful values are small, 0.00001 to 0.001.",
        json_schema_extra=IN_STEPS,
    )
    clip: float = Field(
        1.0,
        ge=0,
        description="Longest step that one bad batch may cause (norm of the gradient); "
        "0 is no limit.",
        json_schema_extra=IN_STEPS,
    )


class Schedule(Section):
    """How long to learn, and how the learning rate changes on the way."""

    name: Literal["constant", "step", "exponential", "cosine", "one_cycle", "plateau"] = Field(
        "cosine",
        description="constant: stays as it is. step: falls at once, a few times. exponential: "
        "falls evenly. cosine: falls smoothly to zero. one_cycle: rises, then falls to zero, while "
        "the momentum does the reverse (Smith 2018). plateau: falls whenever validation no longer "
        "improves.",
        json_schema_extra=IN_STEPS,
    )
    epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        description="How often every training image is seen.",
        json_schema_extra=IN_STEPS,
    )
    min_steps: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="With few images, epochs are short: as many are added as this number of steps "
        "needs. 0 adds none.",
        json_schema_extra=IN_STEPS,
    )
    warmup: Share = Field(
        0.1,
        description="Share of the training in which the rate rises from nearly zero.",
        json_schema_extra=IN_STEPS,
    )
    factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="step and plateau: what the rate is multiplied by at each fall. exponential: "
        "what is left of it at the end.",
        json_schema_extra=when("schedule.name", "step", "exponential", "plateau"),
    )
    drops: int = Field(
        2,
        ge=1,
        le=100,
        description="How many times the rate falls, at equal distances.",
        json_schema_extra=when("schedule.name", "step"),
    )
    patience: int = Field(
        2,
        ge=1,
        le=1000,
        description="Epochs without a better one after which the rate falls.",
        json_schema_extra=when("schedule.name", "plateau"),
    )


class Regularization(Section):
    """What keeps the network from learning the training images by heart."""

    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the features hidden at random in every step.",
        json_schema_extra=IN_STEPS,
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the backbone's blocks skipped at random in every step (stochastic "
        "depth, Huang et al. 2016). Most backbones have it; VGG and Inception do not.",
        json_schema_extra=TUNED,
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="How much doubt is kept about every label; 0.1 helps where "
        "some labels may be wrong.",
        json_schema_extra=IN_STEPS,
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Judge and keep a running average of the weights instead of the last ones: "
        "0.99 averages about the last 100 steps; 0 is off (Polyak and Juditsky 1992).",
        json_schema_extra=IN_STEPS,
    )


class Stopping(Section):
    """When to stop before the last epoch, and which epoch is the best."""

    patience: int = Field(
        0,
        ge=0,
        description="Stop after this many epochs without a better one; 0 never stops.",
        json_schema_extra=IN_STEPS,
    )
    metric: Literal["val_loss", "val_accuracy", "val_macro_f1"] = Field(
        "val_loss",
        description="What makes an epoch the best one, measured on the validation images.",
        json_schema_extra=IN_STEPS,
    )
    min_delta: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Least change of that figure that counts as better; smaller ones may be luck.",
        json_schema_extra=IN_STEPS,
    )


class Compute(Section):
    """The machine's part. It changes the time, and the figures only in their last digits."""

    batch_size: Images | Literal["auto"] = Field(
        32,
        description="Images in one step. auto: the largest that fits the memory, smaller again if "
        "it proves too large; the learning rate follows.",
        json_schema_extra=IN_STEPS,
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=1024,
        description="Batches whose gradients are added up to one step: a large batch with the "
        "memory of a small one.",
        json_schema_extra=IN_STEPS,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        AUTO,
        description="Number format in training steps. auto: the faster one of those that the "
        "device has itself, found by a few measured steps; a training with less than half of that "
        "speed measures again, and changes. Validation and test figures always come from fp32. "
        "fp16 is for CUDA.",
        json_schema_extra=TUNED,
    )
    device: str = Field(
        AUTO,
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto: the graphics processor if there is one; or cpu, cuda, cuda:1, mps.",
    )
    workers: Threads | Literal["auto"] = Field(
        AUTO, description="Threads that decode and augment. auto: as many as processor cores."
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Devices that train this one run together, each its share of every batch. The "
        "figures stay the same up to rounding; it takes less time where there are several graphics "
        "processors.",
        json_schema_extra=TUNED,
    )


class Finish(Section):
    """What is done once with the best epoch."""

    calibrate: bool = Field(
        True,
        description="Correct overconfident probabilities on the validation images (temperature "
        "scaling). It never changes which class comes first.",
    )
    soup: bool = Field(
        False,
        description="Average the weights of the best epochs, as long as the validation images "
        "agree that it helps (greedy soup, Wortsman et al. 2022).",
        json_schema_extra=IN_STEPS,
    )
