"""The kinds of findings: what each means in plain words, and what to do about it.

`KINDS` is the table that the Data page, the shell and the documentation read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
SEVERITIES: dict[Severity, str] = {
    "error": "Makes figures wrong or teaches mistakes. Put it right before you train.",
    "warning": "Likely to do harm. Look at it.",
    "hint": "Often harmless. Good to know.",
}
# Classes with fewer images than this are said to have few.
FEW_IMAGES = 20


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    help: what it means. remedy: what to do. of_groups: each of its entries is a group of images
    that belong together; else one image. action: the correction that one click makes, as the
    dataset's journal calls it; "" where only the user can know.
    """

    title: str
    severity: Severity
    help: str
    remedy: str
    of_groups: bool = False
    action: Literal["exclude", "exclude_copies", "relabel", ""] = ""


KINDS: dict[str, Kind] = {
    "leak": Kind(
        "The same picture on both sides of the split",
        "error",
        "Copies of one picture lie in different parts (training, validation, test). The "
        "classifier is then examined on what it has learned by heart, and its figures are too "
        "good.",
        "Exclude all but the first of each group, or divide the images anew: copies then stay "
        "together.",
        of_groups=True,
        action="exclude_copies",
    ),
    "contradiction": Kind(
        "The same picture in different classes",
        "error",
        "Copies of one picture carry different labels. At most one of them can be right, and the "
        "classifier learns from both.",
        "Look at each group: relabel the wrong ones, or exclude the whole group if it is unclear.",
        of_groups=True,
        action="exclude",
    ),
    "label_error": Kind(
        "Probably a wrong label",
        "error",
        "A classifier that had not seen the image is sure that it belongs to another class: its "
        "own label is improbable. The most suspicious come first.",
        "Compare the image with those beside it, which belong to the class that it probably is. "
        "Relabel it if you agree, keep it if the label is right.",
        action="relabel",
    ),
    "exact_duplicate": Kind(
        "Exact copies",
        "warning",
        "The same file, byte for byte, is there several times. It counts more than others in "
        "training, for no reason.",
        "Exclude all but the first of each group.",
        of_groups=True,
        action="exclude_copies",
    ),
    "near_duplicate": Kind(
        "Nearly the same picture",
        "warning",
        "The same picture was saved again: smaller, cropped, brighter, or compressed more. Such "
        "copies count as if they were pictures of their own.",
        "Exclude all but the first of each group. A split keeps them together in any case.",
        of_groups=True,
        action="exclude_copies",
    ),
    "outlier": Kind(
        "Unlike all other images",
        "warning",
        "The image looks like nothing else in the dataset: perhaps it got in by mistake, such as "
        "a logo, a screenshot, or a placeholder. It may also be a rare but proper example.",
        "Exclude what does not belong to your task; keep rare but proper examples.",
        action="exclude",
    ),
    "blank": Kind(
        "Nothing to see",
        "warning",
        "The image is of one color, or nearly so. Nothing can be learned from it.",
        "Exclude it.",
        action="exclude",
    ),
    "dark": Kind(
        "Too dark",
        "warning",
        "Even the brightest parts of the image are dark.",
        "Exclude it if you cannot tell its class yourself. Keep it if photos will be as dark as "
        "this in use.",
        action="exclude",
    ),
    "bright": Kind(
        "Too bright",
        "warning",
        "Nearly all of the image is white: it is overexposed, or almost empty.",
        "Exclude it if you cannot tell its class yourself.",
        action="exclude",
    ),
    "blurred": Kind(
        "Blurred",
        "warning",
        "The image has no sharp edges, even when it is made small.",
        "Exclude it if you cannot tell its class yourself. Keep it if photos will be as blurred as "
        "this in use.",
        action="exclude",
    ),
    "tiny": Kind(
        "Too small",
        "warning",
        "The image has far fewer pixels than the network looks at; details that tell classes apart "
        "may be lost.",
        "Look for the original in full size; exclude it if you cannot tell its class yourself.",
        action="exclude",
    ),
    "odd_aspect": Kind(
        "Very long or very wide",
        "hint",
        "One side is several times as long as the other. Most of the image is cut off when it is "
        "made square, unless the recipe says otherwise.",
        "Exclude strips and banners; for panoramas choose letterbox in the recipe.",
        action="exclude",
    ),
    "grayscale": Kind(
        "Gray among color",
        "hint",
        "The image has no color, and most of the others have. Where gray images gather in one "
        "class, the classifier may take the lack of color for the class.",
        "Nothing, if all classes have some. Else add gray photos of the other classes, or exclude "
        "these.",
    ),
    "few_images": Kind(
        "A class with few images",
        "warning",
        f"The class has fewer than {FEW_IMAGES} images. It will be recognized badly, and its own "
        "figures will be little more than guesses, because few images are left to measure with.",
        "Add images, or merge the class with one that it resembles.",
        of_groups=True,
    ),
    "giveaway": Kind(
        "Something other than the content tells the class",
        "warning",
        "The size, the format, the camera, the borders, the brightness or the lack of color alone "
        "tell this class from the others. The classifier may learn that instead of what is to be "
        "seen, and fail in use.",
        "Take photos of all classes in the same way, or bring all files to the same size and "
        "format, and import them again.",
        of_groups=True,
    ),
}  # fmt: skip
