"""The map of a dataset: one point for each image, alike images near each other.

Features -> principal components (PCA) -> t-SNE (van der Maaten and Hinton 2008), by scikit-learn.
Kept with the revision in `maps/<revision>.parquet`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import numpy as np

from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.errors import DatasetRefused
from core.jobs import Step
from core.machine import late_pandas as pd
from core.storage import whole_file

# Enough to keep what tells images apart; t-SNE's own authors take as many.
COMPONENTS = 50
# t-SNE of so many takes a minute or so on two cores; the others are put among their nearest.
MOST_PLACED = 5_000
FEWEST = 4
PERPLEXITY = 30.0
NEAREST = 3
BLOCK = 1024
# Share of the work that is done when the features are there.
SEEN = 0.7


def steps(
    stop: Callable[[], bool], *, dataset: str, revision: int | None = None, anew: bool = False
) -> Iterator[Step]:
    """The job that draws the map; its result is {"dataset", "revision", "images", "note"}.

    Raises: NotFound, DatasetRefused, WeightsMissing.
    """
    for step in mapped(datasets.load(dataset, revision), anew=anew):
        yield step
        if stop():
            return


def mapped(dataset: Dataset, *, anew: bool = False) -> Iterator[Step]:
    """Draw the map of a revision and keep it; one that is kept is not drawn again, unless `anew`.

    Raises: DatasetRefused for a handful of images, WeightsMissing.
    """
    n = len(dataset.table)
    if n < FEWEST:
        raise DatasetRefused(f"{n} images make no map.", f"Add some; {FEWEST} are the least.")
    path = dataset.folder / "maps" / f"{dataset.revision}.parquet"
    if anew or not path.exists():
        points = yield from drawn(dataset)
        table = pd.DataFrame({"name": dataset.table["name"], "x": points[:, 0], "y": points[:, 1]})
        with whole_file(path) as file:
            table.to_parquet(file, index=False)
    result = {"dataset": dataset.id, "revision": dataset.revision, "images": n, "note": note(n)}
    yield Step(n, n, "Done", result=result)


def note(n: int) -> str:
    """What is to be said where not every image was placed by itself; "" else."""
    if n <= MOST_PLACED:
        return ""
    return (
        f"{MOST_PLACED:,} images drawn at random were placed by t-SNE; each of the other "
        f"{n - MOST_PLACED:,} lies among the {NEAREST} that it is most like."
    )


def load(dataset: Dataset) -> pd.DataFrame | None:
    """Columns name, x and y of the images that are still there; None before any map.

    The map is that of the newest revision up to this one that has one.
    """
    kept = (int(path.stem) for path in (dataset.folder / "maps").glob("[0-9]*.parquet"))
    revisions = sorted(one for one in kept if one <= dataset.revision)
    if not revisions:
        return None
    table = pd.read_parquet(dataset.folder / "maps" / f"{revisions[-1]}.parquet")
    return table[table["name"].isin(set(dataset.table["name"]))].reset_index(drop=True)


def missing(dataset: Dataset, points: pd.DataFrame) -> int:
    """How many images of the dataset are not on its map, since they came after it was drawn."""
    return int((~dataset.table["name"].isin(set(points["name"]))).sum())


def drawn(dataset: Dataset) -> Generator[Step, None, np.ndarray]:
    """Places of all images, N×2 float32."""
    from core.auditing import seen

    n = len(dataset.table)
    seeing = seen.features(dataset, np.arange(n))
    while True:
        try:
            doing = next(seeing)
        except StopIteration as ended:
            values: np.ndarray = ended.value
            break
        yield Step(int(doing.share * SEEN * n), n, "Seeing each image")
    yield Step(int(SEEN * n), n, "Laying out the map")
    return placed(seen.unit(values), seen.default_recipe().seed)


def placed(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Places N×2 float32 of features N×F; the same for the same features and seed."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(vectors)
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[:MOST_PLACED])
    components = min(COMPONENTS, len(chosen), vectors.shape[1])
    axes = PCA(components, svd_solver="randomized", random_state=seed).fit(vectors[chosen])
    reduced = axes.transform(vectors)
    layout = TSNE(
        perplexity=min(PERPLEXITY, (len(chosen) - 1) / 3), init="pca", learning_rate="auto",
        random_state=seed,
    )  # fmt: skip
    points = np.empty((n, 2), dtype=np.float32)
    points[chosen] = layout.fit_transform(reduced[chosen])
    rest = np.setdiff1d(np.arange(n), chosen)
    points[rest] = among_nearest(reduced[rest], reduced[chosen], points[chosen])
    return points


def among_nearest(rows: np.ndarray, others: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each row the middle of the points of the others that it is most like: R×2."""
    result = np.empty((len(rows), 2), dtype=np.float32)
    squares = (others**2).sum(axis=1)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        apart = squares - 2 * block @ others.T
        nearest = np.argpartition(apart, NEAREST - 1, axis=1)[:, :NEAREST]
        result[start : start + len(block)] = points[nearest].mean(axis=1)
    return result
