"""Probabilities and labels of some images: what everything in `evaluation` starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import NotFound
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import whole_file


@dataclass(frozen=True)
class Scores:
    """What a classifier said of N images with C classes.

    probabilities: N×C float32, rows sum to 1. labels: N int64 in [0, C), the truth.
    images: N names, as in the dataset. split: N of train, val, test.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image: N int64."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the predicted class: N float32."""
        return np.asarray(self.probabilities.max(axis=1))

    def chosen(self, keep: np.ndarray) -> Scores:
        """The images that a mask or positions choose."""
        return Scores(
            self.probabilities[keep], self.labels[keep], self.images[keep], self.split[keep]
        )

    def part(self, split: str) -> Scores:
        """The images of one part."""
        return self.chosen(self.split == split)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities N×C float32 from logits N×C; rows sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def joined(parts: list[Scores]) -> Scores:
    """Several sets of images as one."""
    return Scores(
        np.concatenate([p.probabilities for p in parts]),
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.split for p in parts]),
    )


def save(scores: Scores, path: Path) -> None:
    """Write `predictions.parquet`: image, split, label, predicted (class numbers), p_0, p_1 ….

    The order of the classes is that of `label_names` in `model/config.json`.
    """
    table = pd.DataFrame(
        {
            "image": scores.images,
            "split": scores.split,
            "label": scores.labels,
            "predicted": scores.predicted,
        }
    )
    columns = [f"p_{k}" for k in range(scores.probabilities.shape[1])]
    probabilities = pd.DataFrame(scores.probabilities, columns=columns)
    with whole_file(path) as file:
        pd.concat([table, probabilities], axis=1).to_parquet(file, index=False)


def load(path: Path) -> Scores:
    """Read `predictions.parquet`.

    Raises: NotFound when the run has none (yet), or the file is damaged.
    """
    if not path.exists():
        raise NotFound(
            "This run has no predictions.", "They are written when a run finishes or is stopped."
        )
    try:
        return of_table(pd.read_parquet(path))
    except (OSError, ValueError, KeyError) as error:
        raise NotFound("The predictions of this run are damaged.", "Train it again.") from error


def of_table(table: pd.DataFrame) -> Scores:
    """The scores that `save` wrote as a table."""
    columns = [f"p_{k}" for k in range(sum(name.startswith("p_") for name in table.columns))]
    return Scores(
        table[columns].to_numpy(dtype=np.float32),
        table["label"].to_numpy(dtype=np.int64),
        table["image"].to_numpy(dtype=object),
        table["split"].to_numpy(dtype=object),
    )
