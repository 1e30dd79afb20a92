"""The ways Headstart says no.

HeadstartError(what, remedy)
├── ArchiveRefused     the upload cannot be used, or would be dangerous to use
├── ImageRefused       one file is no image that can be read
├── DatasetRefused     the images cannot be learned from as they are
├── RecipeRefused      a value, or a combination of values, makes no sense
├── WeightsMissing     the pretrained weights are not here and cannot be fetched
├── NotFound           no dataset, run or image of that name
├── Damaged            a dataset, run or study cannot be read
├── NotNow             the thing asked for does not fit the run's present state
└── MachineRefused     the disk is full, or the device that was asked for is not there
"""

from __future__ import annotations


class HeadstartError(Exception):
    """Something the user can put right: `what` went wrong, with which thing, and the `remedy`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)  # Both, so that it can be pickled.
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}"


class ArchiveRefused(HeadstartError):
    """Choose another file, or pack it again as the sentence says."""


class ImageRefused(HeadstartError):
    """Open the file in an image program and save it again as JPEG or PNG."""


class DatasetRefused(HeadstartError):
    """Add images or classes; the sentence says how many are missing."""


class RecipeRefused(HeadstartError):
    """Change the named field; the sentence says to what."""


class WeightsMissing(HeadstartError):
    """Take a backbone whose weights are here, connect to the hub, or name a weights file."""


class NotFound(HeadstartError):
    """List what there is with `python -m core datasets` or `python -m core runs`."""


class Damaged(HeadstartError):
    """Put the named folder back from a copy, or delete it; everything else goes on."""


class NotNow(HeadstartError):
    """Wait for the run to reach the state that the sentence names."""


class MachineRefused(HeadstartError):
    """Free some space or choose another device; `python -m core doctor` lists both."""
