from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from core import recipe as recipes
from core.data import importing


def page() -> None:
    from core.data import dataset as datasets
    from pages import advice

    advice.view(datasets.load(datasets.summaries()[0]["id"]))


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "be*es", each=8)), "insects")


def test_one_click_advises_and_one_more_takes_the_recipe_or_only_the_backbone(dataset):
    app = AppTest.from_function(page, default_timeout=300).run()
    assert [button.label for button in app.button] == ["Advise me"]
    app.button(key="advise").click().run()
    assert not app.exception, app.exception
    shown = "\n".join(str(one.value) for one in (*app.markdown, *app.caption))
    assert "n = " in shown and "keep the backbone frozen" in shown
    assert "A training takes about" in shown
    app.button(key="take recipe").click().run()
    taken = recipes.from_yaml(app.session_state["loaded_yaml"])
    assert taken.augmentation.policy == "none" and taken.schedule.epochs == 40
    # Only the backbone is another one then: the rest is what was loaded.
    loaded = recipes.changed(taken, {"schedule": {"epochs": 7}, "backbone": {"name": "resnet18"}})
    app.session_state["loaded_yaml"] = recipes.to_yaml(loaded)
    app.button(key="take tf_efficientnet_lite0").click().run()
    again = recipes.from_yaml(app.session_state["loaded_yaml"])
    assert again.schedule.epochs == 7 and again.backbone.name == "tf_efficientnet_lite0"


def test_a_refusal_is_told_and_nothing_is_shown(dataset, monkeypatch):
    import core.models.ranking as ranking
    from core.errors import WeightsMissing

    def none_here(recipe: recipes.Recipe) -> list[str]:
        raise WeightsMissing("No weights.", "Install some.")

    monkeypatch.setattr(ranking, "candidates", none_here)
    app = AppTest.from_function(page, default_timeout=300).run()
    app.button(key="advise").click().run()
    assert "No weights" in app.error[0].value and len(app.button) == 1
