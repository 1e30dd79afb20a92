"""The random changes to training images, and named sets of them for those who do not care."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from core.sections import Section, Share

_CROPPED = {"horizontal_flip": 0.5, "random_crop": 0.5}
# What each policy sets; a field that is given beside it has its own say. The light one crops
# nothing: where a small defect decides, a crop that misses it teaches the wrong class. ImageNet's
# smallest crop of 0.08 deletes much more, so even the strong set keeps a quarter of the picture.
POLICIES: dict[str, dict[str, float]] = {
    "none": {},
    "light": {"horizontal_flip": 0.5, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1},
    "medium": {
        **_CROPPED, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02,
        "rotation": 10.0, "translation": 0.05, "zoom": 0.1, "perspective": 0.1, "erasing": 0.1,
    },
    "strong": {
        **_CROPPED, "random_crop": 0.25, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3,
        "hue": 0.05, "grayscale": 0.1, "rotation": 20.0, "translation": 0.1, "zoom": 0.2,
        "perspective": 0.2, "blur": 1.0, "noise": 0.02, "erasing": 0.25,
    },
    "TrivialAugment": _CROPPED,
    "RandAugment": _CROPPED,
}  # fmt: skip


class Augmentation(Section):
    """Random changes to each training image, new in every epoch, that leave its class as it is.

    They apply wherever the network itself is trained; feature extraction looks at every image
    once, as it is.
    """

    policy: Literal["none", "light", "medium", "strong", "TrivialAugment", "RandAugment"] = Field(
        "light",
        description="A ready-made set of the changes below, each of which can still be set by "
        "itself. TrivialAugment: one more change drawn at random for each image; RandAugment: two "
        "more. none: only what you set below.",
    )
    magnitude: Share = Field(
        0.5,
        description="How strong the changes are that TrivialAugment and RandAugment draw.",
        json_schema_extra={"when": {"augmentation.policy": ["TrivialAugment", "RandAugment"]}},
    )
    horizontal_flip: Share = Field(
        0.0,
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
    random_crop: float = Field(
        1.0,
        ge=0.05,
        le=1,
        description="Smallest share of the area that a random crop keeps; 1 switches it off. "
        "Small values show details and may cut the object away.",
    )
    perspective: float = Field(
        0.0, ge=0, le=0.5, description="Largest tilt, as a share of the side that a corner moves."
    )
    brightness: float = Field(
        0.0, ge=0, le=0.9, description="Largest change of brightness: 0.2 is up to 20 %."
    )
    contrast: float = Field(
        0.0, ge=0, le=0.9, description="Largest change of contrast: 0.2 is up to 20 %."
    )
    saturation: float = Field(
        0.0, ge=0, le=0.9, description="Largest change of how vivid colors are: 0.2 is up to 20 %."
    )
    hue: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Largest turn of all colors around the color circle; 0.5 is half of it. Set 0 "
        "where color tells the classes apart.",
    )
    grayscale: Share = Field(0.0, description="Chance of losing all color.")
    blur: float = Field(
        0.0, ge=0, le=10, description="Largest blur: standard deviation in pixels. For poor focus."
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Standard deviation of random noise, as a share of the "
        "full brightness range. For grainy cameras.",
    )
    erasing: Share = Field(
        0.0,
        description="Chance of a gray patch over part of the image, so that no single detail "
        "decides (Zhong et al. 2020).",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Blends pairs of images and their labels; the number is the alpha of the beta "
        "distribution that draws the shares (Zhang et al. 2018). For large datasets; 0 is off.",
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Pastes a rectangle of one image into another and blends their labels by area; "
        "the number is the alpha, as for mixup (Yun et al. 2019). 0 is off.",
    )

    @model_validator(mode="before")
    @classmethod
    def _policy_fills_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        policy = values.get("policy", cls.model_fields["policy"].default)
        return {**POLICIES.get(policy if isinstance(policy, str) else "", {}), **values}

    @property
    def does_nothing(self) -> bool:
        """Whether every image stays as it is, in every epoch."""
        off = Augmentation(policy="none")
        drawn = self.policy in ("TrivialAugment", "RandAugment") and self.magnitude > 0
        unseen = {"policy": "none", "magnitude": off.magnitude}
        return not drawn and self.model_copy(update=unseen) == off
