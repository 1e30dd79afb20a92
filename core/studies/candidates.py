"""The runs of one candidate: started, taken up again when a worker died, and what they came to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from core import recipe as recipes
from core.data import folding
from core.data.split import SCORED
from core.errors import NotNow
from core.runs import queue, supervisor
from core.runs import run as runs
from core.runs.run import Place, Run
from core.schema import Recipe
from core.storage import Json, write_bytes
from core.studies.study import Study, members
from core.training.events import Started

# A run whose worker died is begun again so many times in all.
MOST_STARTS = 4
# A worker that was just given a run may not have taken its lock yet.
SECONDS_TO_START = 30.0
Outcome = Literal["live", "done", "failed"]


@dataclass
class Crew:
    """The runs of a study by member, and since when each is without a worker."""

    study: Study
    runs: dict[str, Run]
    idle_since: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study) -> Crew:
        """The runs that a study has so far."""
        return cls(study, members(study))

    def begin(self, member: str, recipe: Recipe, name: str, place: Place) -> Run:
        """The run of a member, made if there is none yet.

        Raises: RecipeRefused, WeightsMissing.
        """
        if member not in self.runs:
            run = runs.create(self.study.data(), recipe, name=name, place=place)
            self.runs[member] = run
        return self.runs[member]

    def look(self, member: str, *, cut: bool = False) -> Outcome:
        """How a member is; one that waits for nobody is queued, one whose worker died goes on.

        cut: whether the study itself has it stopped; else one that was stopped goes on too.
        """
        run = self.runs[member]
        state = runs.state_of(run)
        events = run.events()
        if state in runs.LIVE:
            self.idle_since.pop(member, None)
            return "live"
        if state == "failed":
            return "failed"
        if state == "finished" or (cut and state == "stopped"):
            return "done" if runs.result_of(events) else "failed"
        if sum(isinstance(event, Started) for event in events) >= MOST_STARTS:
            return "failed"
        since = self.idle_since.setdefault(member, time.monotonic())
        entry = queue.entry(run.id)
        # Claimed by a supervisor that died: its worker may be on the way.
        if entry is None or time.monotonic() - since > SECONDS_TO_START:
            self.idle_since.pop(member, None)
            with suppress(NotNow):  # It has just ended.
                runs.enqueue(run)
        else:
            supervisor.ensure()
        return "live"

    def stop(self, member: str) -> None:
        """Ask a member to stop, if it is under way.

        One that waits to go on stays in the queue: its next worker scores what it has so far.
        """
        run = self.runs[member]
        state = runs.state_of(run)
        if state == "queued" and run.events():
            write_bytes(run.folder / "stop", b"")
        elif state in runs.LIVE - {"stopping"}:
            with suppress(NotNow):  # It has just ended.
                runs.ask_to_stop(run)

    def why(self, member: str) -> str:
        """Why a member failed, in a sentence."""
        run = self.runs[member]
        ended = runs.ended(run.events())
        if ended is None:
            return f"Its worker died {MOST_STARTS} times."
        return f"{ended.what} {ended.remedy}".strip() or "It was stopped."


def figures(run: Run) -> Json:
    """What a run came to, by part."""
    return runs.result_of(run.events())


def mean_of(values: Sequence[float], weights: Sequence[int]) -> float:
    """The mean of folds' figures, each image counting the same."""
    pairs = zip(values, weights, strict=True)
    return sum(value * n for value, n in pairs) / sum(weights)


def folded(recipe: Recipe, fold: folding.Fold) -> Recipe:
    """A recipe for one fold."""
    return recipes.changed(recipe, {"data": {"fold": str(fold)}})


def trial_place(study: Study, member: str, measured: set[str]) -> Place:
    """The place of a trial: only what it is chosen by is measured, its classifier is not kept."""
    held_back = tuple(one for one in (*SCORED, "milliseconds") if one not in measured)
    return Place(study.id, member, held_back, keeps_model=False)
