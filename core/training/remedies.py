"""Changes of a recipe for the next run, each as values by dotted name: what the doctor proposes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core import recipe as recipes
from core.errors import RecipeRefused
from core.machine import late_numpy as np
from core.models.catalog import backbone
from core.schema import Recipe
from core.storage import Json
from core.training.history import History

# From gentle to strong, a step at a time.
LADDER = ("none", "light", "medium", "strong")
# What a technique that has not been set up yet begins with: the presets quick and balanced.
EPOCHS = {"feature_extraction": 40, "finetune": 12}
# The strongest that is proposed: more of them costs more than it brings on few images.
MOST_DROPOUT, MOST_DECAY = 0.3, 0.2
LEAST_EPOCHS, MOST_EPOCHS, PATIENCE = 5, 200, 5
# The share of images that is never taken from training.
LEAST_TRAINING = 0.5
# Images with a smaller side show too little.
LEAST_SIDE = 96
# Where the backbone is not in the catalogue.
USUAL_SIDE = 224


def first_valid(recipe: Recipe, changes: Iterable[Json]) -> Json:
    """The first change that can be used and makes a difference; else none."""
    return next((change for change in changes if matters(recipe, change)), {})


def matters(recipe: Recipe, change: Json) -> bool:
    """Whether a recipe allows a change and some field that it changes says anything there."""
    try:
        other = recipes.changed(recipe, recipes.by_section(change))
    except RecipeRefused:
        return False
    values = {name: recipes.value_of(other, name) for name, _ in recipes.fields()}
    return any(recipes.applies(name, values) for name in recipes.differences(recipe, other))


def in_words(recipe: Recipe, change: Json) -> list[str]:
    """Each field of a change with its value in a recipe and its new one."""
    return [
        f"{name}: {shown(recipes.value_of(recipe, name))} → {shown(value)}"
        for name, value in change.items()
    ]


def shown(value: Any) -> str:
    """A value as people and `--set` write it: small numbers in full, lists in brackets."""
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def rate(history: History, share: float) -> Json:
    """The rate that was used times a share, to one digit."""
    used = history.peak_rate
    return {"optimizer.learning_rate": float(f"{used * share:.1g}")} if used else {}


def technique(recipe: Recipe, name: str) -> Json:
    """Another technique, with what would clash with it or was meant for the former one."""
    fixed: Json = {"technique.name": name, "schedule.epochs": EPOCHS[name]}
    if isinstance(recipe.optimizer.learning_rate, float):
        fixed["optimizer.learning_rate"] = "auto"
    clashing = {"feature_extraction": "augment_minority", "finetune": "smote"}[name]
    if recipe.balance.method == clashing:
        fixed["balance.method"] = "oversample"
    if name == "finetune" and recipe.head.kind in ("svm", "knn"):
        fixed["head.kind"] = "linear"
    return fixed


def policy(recipe: Recipe, step: int) -> Json:
    """The next policy up or down the ladder, and what was set by hand beside the present one.

    Those settings know what a policy cannot: that a mirror image is another letter, for instance.
    """
    now = recipe.augmentation
    if now.policy not in LADDER:
        return {"augmentation.policy": "light"} | own(recipe) if step < 0 else {}
    place = LADDER.index(now.policy) + step
    if not 0 <= place < len(LADDER):
        return {}
    return {"augmentation.policy": LADDER[place], **own(recipe)}


def own(recipe: Recipe) -> dict[str, Any]:
    """The augmentation that differs from what its policy brings."""
    usual = type(recipe.augmentation)(policy=recipe.augmentation.policy)
    return {
        f"augmentation.{name}": value
        for name, value in recipe.augmentation.model_dump().items()
        if value != getattr(usual, name)
    }


def gentler(recipe: Recipe) -> list[Json]:
    """Weaker changes of the training images, or less hidden from the network."""
    off = type(recipe.augmentation)(policy="none").model_dump()
    plain = {name: off[name.removeprefix("augmentation.")] for name in own(recipe)}
    images: list[Json] = [] if recipe.is_frozen else [policy(recipe, -1), plain]
    dropout = recipe.regularization.dropout
    return [
        *images, {"regularization.dropout": round(dropout / 2, 3) if dropout > 0.1 else 0.0},
        {"regularization.drop_path": 0.0}, {"head.dropout": 0.0},
    ]  # fmt: skip


def stricter(recipe: Recipe, best_epoch: int) -> list[Json]:
    """What holds a network back: more varied images, dropout, weight decay, fewer epochs."""
    dropout, decay = recipe.regularization.dropout, recipe.optimizer.weight_decay
    varied = [] if recipe.is_frozen else [policy(recipe, 1)]
    return [
        *varied,
        {"optimizer.weight_decay": min(MOST_DECAY, max(0.05, 3 * decay))} if decay < MOST_DECAY
        else {},
        {"regularization.dropout": MOST_DROPOUT} if dropout < MOST_DROPOUT else {},
        shorter(recipe, best_epoch),
    ]  # fmt: skip


def freer(recipe: Recipe, epochs: int, *, longer: bool) -> list[Json]:
    """What lets a network learn more: time, a technique that changes more of it, a richer head.

    epochs: as many as it had; a floor of steps may have made them more than the recipe says.
    """
    more = {"schedule.epochs": max(epochs, min(MOST_EPOCHS, 2 * epochs))}
    other = [] if recipe.technique.name == "finetune" else [technique(recipe, "finetune")]
    return [more, *other] if longer else [*other, {"head.kind": "mlp"}, more]


def livelier(recipe: Recipe, since: int, *, lower: bool) -> list[Json]:
    """A rate that falls where nothing moves, or an end when nothing has moved since an epoch."""
    fewer = shorter(recipe, max(LEAST_EPOCHS, since))
    return [{"schedule.name": "plateau"} if lower else {}, fewer, {"stopping.patience": PATIENCE}]


def shorter(recipe: Recipe, epochs: int) -> Json:
    """So many epochs, and no steps beyond them."""
    steps = {"schedule.min_steps": 0} if recipe.schedule.min_steps else {}
    return {"schedule.epochs": max(1, epochs), **steps}


def fairer(recipe: Recipe) -> list[Json]:
    """What makes rare classes count as much as common ones, unless something already does."""
    if recipe.balance.method != "none":
        return [{"balance.strength": 1.0}]
    return [{"balance.method": "oversample"}, {"balance.method": "class_weights"}]


def faster(recipe: Recipe) -> list[Json]:
    """What makes the preparation of images cheaper: threads, fewer changes, smaller images."""
    return [
        {"compute.workers": "auto"},
        policy(recipe, -1) if recipe.augmentation.policy != "light" else {},
        smaller(recipe),
    ]


def smaller(recipe: Recipe) -> Json:
    """Images of about three quarters of the side, as far as the backbone takes them."""
    from core.models import sizes  # Torch comes in only now.

    known, size = backbone(recipe.backbone.name), recipe.image.size
    side = size if isinstance(size, int) else known.input_size if known else USUAL_SIDE
    wanted = max(LEAST_SIDE, side * 3 // 4)
    found = sizes.next_smaller(recipe.backbone.name, wanted + 1) if wanted < side else None
    return {"image.size": found} if found else {}


def more_validation(recipe: Recipe) -> Json:
    """As many training images again for validation as it has, if enough are left to learn from."""
    train, validation, test = recipe.data.split
    moved = min(validation, train - LEAST_TRAINING)
    if moved <= 0:
        return {}
    return {"data.split": [round(train - moved, 4), round(validation + moved, 4), test]}
