"""Several runs as one classifier: their probabilities averaged, or their weights (a soup).

Data flow: members' stored scores -> weights -> one classifier -> scores of every image -> a run of
its own, which names its members.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from core import machine
from core.errors import DatasetRefused, RecipeRefused
from core.evaluation import against, intervals, metrics, seen
from core.evaluation import scores as scoring
from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores
from core.jobs import Step
from core.models import classifier as classifiers
from core.models.classifier import Classifier, Share
from core.runs import run as all_runs
from core.runs.run import Run
from core.storage import Json
from core.studies.gathering import Members, gathered, scored, written
from core.studies.stirring import stirred
from core.studies.weighing import SOUP, WAYS, loss
from core.training.events import Note


def steps(
    stop: Callable[[], bool], *, runs: list[str], method: str, name: str = "", dataset: str = ""
) -> Iterator[Step]:
    """The job that combines runs; its result is {"run"}, the id of the ensemble.

    dataset: which one a page looks at; the runs name their own.
    Raises: RecipeRefused, DatasetRefused for runs that cannot be combined, NotFound.
    """
    machine.keep_heap()
    torch.set_num_threads(machine.cores())
    members = gathered(runs)
    if method == SOUP:
        yield from stirred(members, name)
    elif method in WAYS:
        yield from combined(members, method, name)
    else:
        known = ", ".join((*WAYS, SOUP))
        raise RecipeRefused(f"There is no method {method!r}.", f"Choose {known}.")


@dataclass(frozen=True)
class Together:
    """Members as one classifier, and what it says of the shared images, in their order.

    keep(classifier, folder): writes it. features: N×ΣF.
    """

    classifier: Classifier
    scores: Scores
    features: np.ndarray
    keep: Callable[[Classifier, Path], None]


def combined(members: Members, method: str, name: str) -> Iterator[Step]:
    """Weigh the members and make one classifier of them."""
    weights = weighed(members, method)
    chosen = [run for run, weight in zip(members.runs, weights, strict=True) if weight > 0]
    if len(chosen) == 1:
        raise DatasetRefused(
            f"By the validation images {chosen[0].label} alone is better than with any other.",
            "Use it as it is, combine others, or choose mean.",
        )
    out = [run.label for run in members.runs if run not in chosen]
    if out:  # Fewer members share more images.
        members, weights = gathered([run.id for run in chosen]), weights[weights > 0]
    together = yield from made(members, weights)
    notes = [f"Left out, as they do not help on validation: {', '.join(out)}."] if out else []
    if not (members.parts == "val").any():
        notes.append(
            "Its members share too few validation images to calibrate it by: what it says is the "
            "mean of what they say. With one division of the images (the same seed, or one that is "
            "kept on Data) it would be calibrated."
        )
    title = f"{WAYS[method].title} of {len(chosen)} on {members.dataset.name}"
    facts: Json = {"kind": method, "members": [run.id for run in chosen], "name": name or title}
    run = written(
        members, together.classifier, together.scores, together.features, facts, notes,
        together.keep,
    )  # fmt: skip
    yield Step(1, 1, "Done", result={"run": run.id})


def made(members: Members, weights: np.ndarray) -> Generator[Step, None, Together]:
    """The members with a weight as one classifier; those of weight 0 are left out.

    Where all see the same picture, what they said is what they say, and nothing is seen again.
    """
    counted = [k for k, weight in enumerate(weights) if weight > 0]
    loaded = [classifiers.load(members.runs[k].model) for k in counted]
    classifier = classifiers.together(loaded, [float(weights[k]) for k in counted])
    if all(one.preprocessing == classifier.preprocessing for one in loaded):
        features = np.concatenate([features_of(members, k) for k in counted], axis=1)
        said = np.stack([members.scores[k].probabilities for k in counted])
        mean = np.einsum("m,mnc->nc", weights[counted], said).astype(np.float32)
        scores = replace(members.scores[0], probabilities=mean)
    else:
        scores, features = yield from scored(classifier, members)
    shares = [share_of(members.runs[k], float(weights[k])) for k in counted]

    def keep(calibrated: Classifier, folder: Path) -> None:
        classifiers.save_together(calibrated, shares, folder)

    return Together(classifier, scores, features, keep)


def mean_of_all(members: Members) -> Together:
    """All members as one classifier, each counting the same."""
    run = made(members, np.full(len(members.runs), 1 / len(members.runs)))
    while True:
        try:
            next(run)
        except StopIteration as done:
            found: Together = done.value
            return found


def share_of(run: Run, weight: float) -> Share:
    """A run as a member."""
    return Share(run.id, weight, str(classifiers.sums_of(run.model)[classifiers.WEIGHTS]))


def weighed(members: Members, method: str) -> np.ndarray:
    """The weight of each member: M float64, summing to 1.

    Raises: DatasetRefused where they would be chosen by images that there are none of.
    """
    way = WAYS[method]
    probabilities, labels = members.held_out("val")
    if way.needs_validation and not len(labels):
        raise DatasetRefused(
            "Too few images are validation for all of these runs, so that nothing says how much "
            "each should count.",
            "Choose mean. The models of a cross-validation share none, and runs with other seeds "
            "few: keep a division on Data to train with.",
        )
    return way.weigh(probabilities, labels)


def features_of(members: Members, number: int) -> np.ndarray:
    """A member's features of the shared images: N×F float16."""
    known = seen.load(members.runs[number].folder / seen.FILE)
    return np.asarray(known[members.rows[number]])


CROSSVAL = "crossval"


@dataclass(frozen=True)
class Gain:
    """What an ensemble brings on n test images against one member, and what it costs.

    against: the member that is best on validation, or "" where there are no such images: then all.
    accuracy, log_loss: by how much it is better (a fall of the loss is positive), with 95 %
    intervals. mean_of_members: their mean accuracy on the same images.
    """

    against: str
    n: int
    accuracy: Figure
    log_loss: Figure
    mean_of_members: float
    own: float


def gain(run: Run) -> Gain | None:
    """What an ensemble brings on its test images; None without any.

    Of a cross-validation they are those that were kept out of all folds.
    Raises: NotFound when a member is gone.
    """
    members, mine, others = on_test(run)
    if not len(mine):
        return None
    probabilities, labels = members.held_out("val")
    losses = np.stack([metrics.losses(one) for one in others])
    right = np.stack([one.predicted == one.labels for one in others])
    own = mine.predicted == mine.labels
    if len(labels):
        alone = [loss(np.ones(1), probabilities[k : k + 1], labels) for k in range(len(others))]
        best = int(np.argmin(alone))
        name, reference = members.runs[best].id, losses[best]
        accuracy = against.of_shares(own, right[best]).difference
    else:
        # Nothing but the test itself could say which is best: against the mean of all.
        name, reference = "", losses.mean(axis=0)
        more = own.astype(float) - right.mean(axis=0)
        accuracy = intervals.of_mean(more, mine.labels, signed=True)
    fall = intervals.of_mean(reference - metrics.losses(mine), mine.labels, signed=True)
    return Gain(name, len(mine), accuracy, fall, float(right.mean()), float(own.mean()))


def told(gain: Gain | None) -> list[str]:
    """What an ensemble gains, in sentences."""
    if gain is None:
        return []
    reference = (
        f"its best member by validation ({all_runs.load(gain.against).label})" if gain.against
        else "the mean of its members (too few shared validation images say which is best)"
    )  # fmt: skip
    low, high = gain.log_loss.low or 0.0, gain.log_loss.high or 0.0
    verdict = "It helps" if low > 0 else "It harms" if high < 0 else "It may help or not"
    return [
        f"On {gain.n:,} test images it is right in {gain.own:.1%}; its members in "
        f"{gain.mean_of_members:.1%} on average.",
        f"{verdict}: against {reference}, accuracy changes by {points(gain.accuracy)} and the log "
        f"loss falls by {gain.log_loss.value:.4f} (95 %: {low:.4f} to {high:.4f}).",
    ]


def points(figure: Figure) -> str:
    """A difference of shares in percentage points, with its interval."""
    value, low, high = (100 * (one or 0.0) for one in (figure.value, figure.low, figure.high))
    return f"{value:+.1f} points (95 %: {low:+.1f} to {high:+.1f})"


def notes_of(run: Run) -> list[str]:
    """What was said when it was put together."""
    return [event.text for event in run.events() if isinstance(event, Note)]


def table(run: Run) -> list[Json]:
    """One row for the ensemble and one for each member, all on the test images of the ensemble.

    Without any, accuracy is None. Milliseconds are those of each run's own end.
    """
    weights = {one.run: one.weight for one in classifiers.shares_of(run.model)}
    members, mine, others = on_test(run)
    rows = [row_of(run, None, mine)]
    for member, scores in zip(members.runs, others, strict=True):
        rows.append(row_of(member, weights[member.id], scores))
    return rows


def on_test(run: Run) -> tuple[Members, Scores, list[Scores]]:
    """The members; what the ensemble, and what each of them says of its test images, in one order.

    Of a cross-validation they are those that were kept out of all folds.
    """
    mine = scoring.load(run.predictions).part("kept" if run.kind == CROSSVAL else "test")
    members = gathered(run.members)
    every = [one.part("test") for one in members.scores]
    place = {str(image): k for k, image in enumerate(mine.images)}
    rows = np.array([place.get(str(image), -1) for image in every[0].images], dtype=int)
    return members, mine.chosen(rows[rows >= 0]), [one.chosen(rows >= 0) for one in every]


def row_of(run: Run, weight: float | None, scores: Scores) -> Json:
    """A run as a row."""
    figure = metrics.accuracy(scores) if len(scores) else Figure(None, None, None, 0)
    return {
        "name": run.name, "weight": weight, "accuracy": figure.value, "low": figure.low,
        "high": figure.high, "n": figure.n,
        "ms an image": all_runs.result_of(run.events()).get("milliseconds"), "run": run.id,
    }  # fmt: skip


def figure_of(row: Json) -> Figure:
    """The accuracy of a row."""
    return Figure(row["accuracy"], row["low"], row["high"], row["n"])
