"""What verbs of the shell that train ask for: a preset or a file, and changes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core import recipe as recipes
from core.errors import NotFound, RecipeRefused
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
    base = recipes.preset(preset) if file is None else recipes.from_yaml(text_of(file))
    return recipes.with_settings(base, assignments)


def text_of(file: Path) -> str:
    """What a text file that was named says.

    Raises: NotFound, RecipeRefused.
    """
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", "Check the path.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeRefused(f"{file} is no text in UTF-8.", "Save it as a YAML file.") from error
