"""What the curves of a training mean, in plain sentences, each with a change for the next run.

The rules stand in `rules`. Those of one group explain the same curves, and two explanations would
contradict each other: of each group only the first that speaks is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from core.schema import Recipe
from core.training import remedies, rules
from core.training.events import Ended, EpochEnded, Event, Note
from core.training.history import History

Rule = Callable[[History], Note | None]
RULES: tuple[tuple[Rule, ...], ...] = (
    (
        rules.rate_too_high,
        rules.rate_too_low,
        rules.probe_was_best,
        rules.augmentation_too_strong,
        rules.underfitting,
        rules.overfitting,
        rules.plateau,
    ),
    (rules.never_predicted,),
    (rules.slow_input,),
    (rules.few_validation,),
)


def diagnose(
    events: Iterable[Event], recipe: Recipe, classes: Sequence[str], over: bool
) -> list[Note]:
    """What the curves in a log mean; over: nothing more will come."""
    history = History(recipe, classes, over)
    for event in events:
        history.add(event)
    return judged(history)


def judged(history: History) -> list[Note]:
    """Of each group of rules the first that speaks."""
    spoken = (next(filter(None, (rule(history) for rule in group)), None) for group in RULES)
    return [found for found in spoken if found]


# Share of images that may leave their class when they are changed. A crop may now and then miss
# what the photo shows; when one of seven does, the network is taught much that is wrong.
AUGMENTATION_FALL = 0.15
# Between two looks a training grows by this share: 10,000 epochs are then looked at 200 times.
GROWTH = 1.05


def attended(
    events: Iterable[Event],
    recipe: Recipe,
    classes: Sequence[str],
    before: Iterable[Event] = (),
    *,
    own_split: bool = False,
) -> Iterator[Event]:
    """The events of a training with the doctor's notes among them, each kind of note once.

    before: of the same run, where it is a resumed one. own_split: see `History`.
    """
    history = History(recipe, classes, own_split=own_split)
    told, next_look = set[str](), 0.0
    for event in before:
        history.add(event)
        told |= kinds(event)
    for event in events:
        history.add(event)
        told |= kinds(event)
        if isinstance(event, Ended):
            # Of a run that was cut short, what it did not reach says nothing.
            history.over = event.reason == "finished"
            yield from news(history, told)
        yield event
        match event:
            case EpochEnded() if event.phase == history.phase and event.epoch >= next_look:
                next_look = GROWTH * event.epoch
                yield from news(history, told)


def news(history: History, told: set[str]) -> list[Note]:
    """What is to be said and was not yet; `told` then knows it too."""
    found = [spoken for spoken in judged(history) if spoken.kind not in told]
    told |= {spoken.kind for spoken in found}
    return found


def kinds(event: Event) -> set[str]:
    """The rule that speaks in an event, if it is such a note."""
    return {event.kind} if isinstance(event, Note) and event.kind else set()


def augmentation_note(plain: float, augmented: float, n: int, recipe: Recipe) -> Note | None:
    """Says so where augmented images fall out of their class.

    plain, augmented: share of the same n images that a head on the frozen features gets right, as
    they are and once changed. They should be held out: of those that it has seen, it knows every
    pixel, and any change looks harmful.
    """
    luck = 2 * math.sqrt((plain * (1 - plain) + augmented * (1 - augmented)) / n) if n else 1.0
    if recipe.is_frozen or plain - augmented < max(AUGMENTATION_FALL, luck):
        return None
    return Note(
        f"Of {n} images the head on the pretrained features gets {plain:.0%} right as they are and "
        f"{augmented:.0%} once they are augmented: the changes hide what they show. Make them "
        "weaker.",
        "warning", "augmentation_too_strong",
        remedies.first_valid(recipe, remedies.gentler(recipe)),
    )  # fmt: skip
