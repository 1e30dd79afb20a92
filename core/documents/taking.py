"""What can be taken along of a run, as files with a name and a type."""

from __future__ import annotations

import secrets
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.documents import card, document, facts
from core.errors import NotFound
from core.evaluation import plates
from core.models.classifier import MEMBERS, shares_of
from core.runs import run as runs
from core.runs.run import Run
from core.runs.scored import Scored
from core.serving.packing import clean_up, safe
from core.settings import settings
from core.storage import whole_file

CARD = "README.md"


@dataclass(frozen=True)
class Document:
    """A document that a run can be asked for: the end of its file's name, and how it is made."""

    ending: str
    media_type: str
    make: Callable[[Run], str]


DOCUMENTS = {
    "report": Document("report.html", "text/html; charset=utf-8", document.html),
    "card": Document(CARD, "text/markdown; charset=utf-8", card.card),
    "recipe": Document("recipe.yaml", "text/yaml; charset=utf-8", runs.recipe_text),
}


def file_name(run: Run, ending: str) -> str:
    """A name for a file of a run that every system takes."""
    return f"{safe(run.name)} {ending}"


def plate(run: Run, images: Scored, part: str, name: str, form: str) -> bytes:
    """The file of a plate of one part of the images that a run has scored.

    Raises: NotFound for an unknown plate, form or part, and where there is nothing to draw.
    """
    if name not in plates.PLATES or form not in plates.FORMS:
        raise NotFound(f"There is no figure {name}.{form}.", "Reload the page.")
    content = plates.made(name, facts.results_of(run, images, part), form)
    if content is None:
        title = plates.PLATES[name].title
        raise NotFound(f"{run.name} has no data for: {title}.", "Choose another figure or part.")
    return content


def all_plates(run: Run) -> Iterator[tuple[str, bytes]]:
    """Every plate of the part that counts, in every form, each with a name for its file."""
    found = facts.gathered(run)
    for name in plates.PLATES:
        for form in plates.FORMS:
            content = plates.made(name, found.results[found.part], form)
            if content is not None:
                yield f"{name}.{form}", content


def packed(run: Run) -> Path:
    """A zip of the model's folder with its card and its recipe, for whoever asked; kept for a day.

    That of an ensemble has its members' folders too.

    Raises: NotFound before there is a model, MachineRefused when the disk has no room.
    """
    clean_up()
    added = {CARD: card.card(run), "recipe.yaml": runs.recipe_text(run)}
    # Of its own name, since thresholds may be kept while somebody still reads the last one.
    path = settings().cache / "packs" / f"{run.id}-{secrets.token_hex(4)}.zip"
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(run.model.iterdir()):
            if not member.name.startswith("."):
                archive.write(member, member.name)
        for share in shares_of(run.model):
            for file_ in sorted(share.folder_in(run.model).iterdir()):
                archive.write(file_, f"{MEMBERS}/{share.run}/{file_.name}")
        for name, text in added.items():
            archive.writestr(name, text)
    return path
