"""What several modules look at: one small training, done once, and somebody who asks the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket

from core import recipe as recipes
from core.data import importing
from core.data.dataset import Dataset
from core.runs import run as runs
from core.runs import worker
from core.runs.run import Run
from core.serving.api import Guard, api
from tests.conftest import make_photo

# Wide, high, square, larger and smaller than what the network sees.
SIZES = ((64, 48), (48, 64), (40, 40), (300, 200), (90, 140), (33, 57))


@dataclass(frozen=True)
class Trained:
    """A home with one dataset and one run that is finished."""

    home: Path
    dataset: Dataset
    run: Run

    def photo(self, name: str) -> bytes:
        """The bytes of an image by its name."""
        (digest,) = self.dataset.table.loc[self.dataset.table["name"] == name, "sha256"]
        return self.dataset.path_of(digest).read_bytes()


SMALL = ["image.size=64", "schedule.epochs=3", "data.split=[0.5, 0.3, 0.2]"]


def train(home: Path, *assignments: str) -> Trained:
    """A quick training on 24 photos, its recipe changed by `name=value`."""
    for kind, label in enumerate(("ants", "bees")):
        (home / "photos" / label).mkdir(parents=True)
        for seed in range(12):
            content = make_photo(seed, size=SIZES[seed % len(SIZES)], kind=kind)
            (home / "photos" / label / f"{seed:02d}.jpg").write_bytes(content)
    recipe = recipes.with_settings(recipes.preset("quick"), [*SMALL, *assignments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(home))
        dataset = importing.import_all(home / "photos")
        run = runs.create(dataset, recipe, "quick")
        *_, last = worker.work(run)
    assert last.reason == "finished", last
    return Trained(home, dataset, run)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training that cannot be changed: look at its files, but not through HEADSTART_HOME."""
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def served(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The same, under the present HEADSTART_HOME."""
    monkeypatch.setenv("HEADSTART_HOME", str(trained.home))
    return trained


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@pytest.fixture
def client() -> TestClient:
    """Somebody who asks as app.py answers: routes under /api, the guard in front."""
    app = Starlette(
        routes=[Mount("/api", app=api), WebSocketRoute("/socket", greet)],
        middleware=[Middleware(Guard)],
    )
    return TestClient(app, base_url="http://localhost:8501")


def sentence(answer: Response, status: int) -> str:
    """What a refusal says; it always has a remedy beside it."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"kind", "what", "remedy"}
    assert all(answer.json().values())
    return str(answer.json()["what"])
