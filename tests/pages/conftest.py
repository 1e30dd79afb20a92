"""What several pages are opened on: a small run that is finished."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs.run import Run
from core.runs.worker import work

SMALL = ["image.size=32", "schedule.epochs=3"]


@pytest.fixture
def finished(class_photos, make_folder) -> Run:
    dataset = importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), SMALL), "quick")
    list(work(run))
    return run
