"""The recipe's fields as a text: values, default and help, from the schema alone."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from core.recipe import choices, fields
from core.storage import Json

SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
HEADING = """# The recipe

Every field of a recipe, for the Recipe page, for `--set NAME=VALUE` and for a YAML file. This text
is written by `python -m core fields --markdown`; the same help stands beside each control.
"""


def values_of(info: FieldInfo) -> str:
    """Which values a field takes, in words."""
    listed = choices(info)
    if listed:
        return ", ".join(listed)
    limits = [
        f"{words} {getattr(rule, sign):g}"
        for sign, words in SIGNS.items()
        for rule in limits_of(info)
        if getattr(rule, sign, None) is not None
    ]
    extra = [word for word in ("auto", "find") if f"'{word}'" in str(info.annotation)]
    if bool in flattened(info.annotation):
        extra += ["true", "false"]
    return "; ".join([part for part in (" and ".join(limits), " or ".join(extra)) if part])


def limits_of(info: FieldInfo) -> list[Any]:
    """Everything that bounds a field's numbers, also inside a choice of several kinds."""
    found = list(info.metadata)
    for part in flattened(info.annotation):
        for inner in getattr(part, "__metadata__", ()):
            found += getattr(inner, "metadata", [])
    return found


def flattened(annotation: Any) -> list[Any]:
    """A kind of value and, where it is one of several, each of those."""
    return [annotation, *getattr(annotation, "__args__", ())]


def facts() -> list[Json]:
    """Every field: name, values, default, help, and the values of others beside which it counts."""
    found = []
    for name, info in fields():
        extra = info.json_schema_extra
        found.append(
            {
                "name": name,
                "values": values_of(info),
                "default": shown(info.get_default()),
                "help": info.description or "",
                "when": extra.get("when", {}) if isinstance(extra, dict) else {},
            }
        )
    return found


def shown(value: Any) -> Any:
    """A default as JSON and YAML write it."""
    return list(value) if isinstance(value, tuple) else value


def lines() -> list[str]:
    """The fields for a person at a shell."""
    return [
        f"{one['name']} = {one['default']}   [{one['values'] or 'text'}]\n    {one['help']}"
        for one in facts()
    ]


def markdown() -> str:
    """The fields as a page of the documentation."""
    parts = [HEADING]
    section = ""
    for one in facts():
        first = str(one["name"]).partition(".")[0]
        if first != section:
            section = first
            parts.append(f"\n## {section}\n")
        values = f" · {one['values']}" if one["values"] else ""
        parts.append(f"- **`{one['name']}`** (`{one['default']}`{values})  \n  {one['help']}")
    return "\n".join(parts) + "\n"


# Field names that say nothing without their section.
VAGUE = (
    "size",
    "fit",
    "kind",
    "weights",
    "split",
    "metric",
    "patience",
    "method",
    "strength",
    "policy",
    "stages",
    "kernel",
    "c",
    "factor",
    "drops",
    "dropout",
    "batch_norm",
)


def label_of(name: str) -> str:
    """What a field is called on the page: technique.name is Technique, image.fit Image fit."""
    section, _, last = name.rpartition(".")
    words = section if last == "name" else f"{section} {last}" if last in VAGUE else last
    return words.replace("_", " ").strip().capitalize()
