"""What verbs of the shell that train ask for: a preset or a file, and changes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core import recipe as recipes
from core.errors import NotFound
from core.recipe import PRESETS
from core.schema import Recipe

Preset = Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="A YAML file instead of a preset.")
]
Settings = Annotated[
    list[str], typer.Option("--set", help="A recipe field by its dotted name: name=value.")
]


def chosen_recipe(preset: str, file: Path | None, assignments: list[str]) -> Recipe:
    """The recipe that these options describe.

    Raises: NotFound, RecipeRefused.
    """
    if file is not None:
        if not file.is_file():
            raise NotFound(f"There is no recipe file {file}.", "Check the path.")
        base = recipes.from_yaml(file.read_text(encoding="utf-8"))
    else:
        base = recipes.preset(preset)
    return recipes.with_settings(base, assignments)
