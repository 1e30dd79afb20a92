"""One recipe: everything one training depends on. Presets, dotted names, YAML in and out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from core.errors import RecipeRefused
from core.schema import Recipe, Section

# Each preset is what differs from the defaults above. The accuracy beside it was measured with
# `python -m core train hymenoptera.zip --preset NAME` on 2 cores; see benchmarks/.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        # Features once, a linear head on them: the bar that everything else must beat.
        "technique": {"name": "feature_extraction"},
        "schedule": {"epochs": 40},
        "compute": {"batch_size": 64},
        "optimizer": {"weight_decay": 0.05},
    },
    "balanced": {
        # Linear probe, then all layers (LP-FT, Kumar et al. 2022).
        # Small batches take more steps, and a short training is worth more than a long wait.
        "technique": {"name": "finetune"},
        "schedule": {"epochs": 4},
        "compute": {"batch_size": 16},
    },
    "best": {
        # Longer, larger, more augmentation; hours on a laptop, minutes on a graphics processor.
        "technique": {"name": "finetune"},
        "image": {"size": 288},
        "augmentation": {"policy": "medium"},
        "schedule": {"epochs": 20},
        "compute": {"batch_size": 16},
        "regularization": {"dropout": 0.2, "label_smoothing": 0.05},
        "stopping": {"patience": 7},
        "finish": {"soup": True},
    },
}
PRESET_HELP = {
    "quick": "Seconds. The backbone stays frozen and a linear head learns. Start here.",
    "balanced": "Minutes. A quick head first, then all layers are tuned gently.",
    "best": "Much longer. Larger images, more augmentation, more epochs.",
}


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change` laid over it, section by section."""
    result = dict(base)
    for name, value in change.items():
        below = result.get(name)
        if isinstance(value, Mapping) and not isinstance(below, Mapping | None):
            raise RecipeRefused(
                f"{name} is one field and has none below it ({next(iter(value))}).",
                f"The fields are: {', '.join(known for known, _ in fields())}.",
            )
        result[name] = merged(below or {}, value) if isinstance(value, Mapping) else value
    return result


def refusal(error: ValidationError) -> RecipeRefused:
    """The first thing that is wrong with a recipe, as a sentence."""
    first = error.errors()[0]
    known = ("literal", "constrained-", "int", "float")
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(known))
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return RecipeRefused(
            f"There is no recipe field {place}.",
            f"The fields are: {', '.join(name for name, _ in fields())}.",
        )
    given = first.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float) else ""
    return RecipeRefused(
        f"The recipe's {place or 'combination of values'} cannot be used: {what}{shown}.",
        "Correct it and try again.",
    )


def make(values: Mapping[str, Any]) -> Recipe:
    """A recipe from nested values, defaults for what is missing.

    Raises: RecipeRefused, naming the field.
    """
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise refusal(error) from error


def preset(name: str) -> Recipe:
    """The recipe of a preset.

    Raises: RecipeRefused for an unknown name.
    """
    if name not in PRESETS:
        raise RecipeRefused(f"There is no preset {name!r}.", f"Choose {', '.join(PRESETS)}.")
    return make(PRESETS[name])


def short_name(recipe: Recipe) -> str:
    """The preset that a recipe is, else its technique."""
    same = (name for name in PRESETS if preset(name) == recipe)
    return next(same, recipe.technique.name)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with nested values laid over it.

    A policy of augmentation brings its own strengths: those of the former one are left behind.
    """
    base = recipe.model_dump()
    if "policy" in (values.get("augmentation") or {}):
        base["augmentation"] = {}
    return make(merged(base, values))


def with_settings(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """A recipe after `name=value` assignments by dotted names, as `--set` gives them.

    Values are read as YAML, so `0.1`, `true` and `[0.8, 0.1, 0.1]` mean what they look like.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeRefused(
                f"{assignment!r} sets nothing.", "Write it as name=value: schedule.epochs=5."
            )
        values[name.strip()] = number_or_yaml(text)
    return changed(recipe, by_section(values))


def made(values: Mapping[str, Any]) -> Recipe:
    """A recipe from values by dotted name, defaults for what is missing.

    Raises: RecipeRefused, naming the field.
    """
    return make(by_section(values))


def by_section(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as values nested by section."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        inner: Any = value
        for part in reversed(name.split(".")):
            inner = {part: inner}
        nested = merged(nested, inner)
    return nested


def number_or_yaml(text: str) -> Any:
    """A value as YAML reads it.

    Raises: RecipeRefused for text that is no YAML.
    """
    try:
        return yaml.load(text[:LONGEST_YAML], PlainLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeRefused(f"{text!r} cannot be read as a value.", "Check quotes.") from error


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML; reading it again gives the same recipe."""
    values = recipe.model_dump(mode="json")
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


LONGEST_YAML = 20_000


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of those unfold to more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node, if it is no alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in a recipe")
        return super().compose_node(parent, index)


# YAML 1.1 takes 1e-4, without a point, for a word.
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@lru_cache(maxsize=512)  # A page with many runs reads each one's recipe several times.
def from_yaml(text: str) -> Recipe:
    """A recipe from YAML, defaults for what it leaves out.

    Raises: RecipeRefused for text that is no YAML or names unknown fields.
    """
    if len(text) > LONGEST_YAML:
        raise RecipeRefused("The text is too long for a recipe.", "Load one recipe only.")
    try:
        values = yaml.load(text, PlainLoader) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeRefused(
            f"The recipe is no valid YAML: {error}.", "Copy it again from a run's Recipe."
        ) from error
    if not isinstance(values, dict):
        raise RecipeRefused("The recipe is no list of fields.", "Begin with a section: schedule:")
    return make(values)


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every field by its dotted name, in the order of the recipe."""
    for name, info in Recipe.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            for below, inner in info.annotation.model_fields.items():
                yield f"{name}.{below}", inner
        else:
            yield name, info


def choices(info: FieldInfo) -> tuple[str, ...]:
    """The values that a field may take, where they are a fixed list; else nothing."""
    arguments = get_args(info.annotation)
    return arguments if arguments and all(isinstance(a, str) for a in arguments) else ()


def applies(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a field says anything beside the other fields' values, by dotted name."""
    extra = dict(fields())[name].json_schema_extra
    rules: Any = extra.get("when", {}) if isinstance(extra, dict) else {}
    return not rules or any(values.get(other) in wanted for other, wanted in rules.items())


def differences(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes differ, by dotted name, with both values."""
    return {
        name: (value_of(one, name), value_of(other, name))
        for name, _ in fields()
        if value_of(one, name) != value_of(other, name)
    }


def value_of(recipe: Recipe, name: str) -> Any:
    """The value of a field by its dotted name."""
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value
