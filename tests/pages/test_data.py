"""The Data page: corrections, their undo, their history, on the real core."""

from __future__ import annotations

import json
import time

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs, storage
from core import recipe as recipes
from core.auditing import findings as audits
from core.auditing.findings import Finding, Findings, Group
from core.auditing.kinds import KINDS
from core.data import dataset as datasets
from core.data import importing, journal
from core.runs import run as runs
from core.serving import uploads
from core.settings import settings
from pages import widgets
from tests.pages.opening import opened, texts, waited

HOSTILE = "<b>b*ees*</b> $x$ [a](b)"


@pytest.fixture
def insects(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", "wasps", each=8)), "bugs")


def sources(app: AppTest) -> str:
    """What the grids on a page have been told."""
    return " ".join(element.proto.json for element in app.get("bidi_component"))


def test_a_class_is_renamed_and_the_page_tells_and_undoes_it(insects):
    app = opened("data", view="Images")
    app.selectbox(key="rename_from").set_value("bees")
    app.text_input(key="rename_to").set_value("honey bees")
    submit(app, "Rename")
    assert datasets.load(insects.id).classes == ("ants", "honey bees", "wasps")
    assert "**Revision 2.** Last change: Class bees renamed to honey bees" in texts(app)
    assert "Revision 2 is saved" in app.toast[0].value
    app.button(key="undo").click().run()
    assert not app.exception, app.exception
    found = datasets.load(insects.id)
    assert (found.revision, found.classes) == (3, insects.classes)
    assert "Last change" not in texts(app)


def submit(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, app.exception


def test_classes_are_merged_into_a_new_one(insects):
    app = opened("data", view="Images")
    app.multiselect(key="merge_from").set_value(["bees", "wasps"])
    app.selectbox(key="merge_to").set_value("wasps")
    submit(app, "Merge")
    assert datasets.load(insects.id).classes == ("ants", "wasps")


def test_a_correction_that_makes_no_sense_is_refused_in_words_and_nothing_is_saved(insects):
    app = opened("data", view="Images")
    submit(app, "Merge")
    assert "No classes were chosen" in app.error[0].value
    app.selectbox(key="rename_from").set_value("bees")
    app.text_input(key="rename_to").set_value("wasps")
    submit(app, "Rename")
    assert "There is a class wasps already" in app.error[0].value
    assert datasets.load(insects.id).revision == 1


def test_the_grid_asks_for_the_images_of_the_chosen_classes_in_this_revision(insects):
    journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    app = opened("data", view="Images")
    assert "/images?revision=2" in sources(app)
    app.multiselect(key="classes").set_value(["wasps"]).run()
    assert "label=wasps" in sources(app) and '"exclude"' in sources(app)
    app.segmented_control(key="shown_part").set_value("excluded").run()
    assert "part=excluded" in sources(app)
    assert '"include"' in sources(app) and '"exclude"' not in sources(app)


def test_names_that_are_markup_are_shown_as_they_are(insects):
    journal.record(insects.id, {"action": "rename", "from": "bees", "to": HOSTILE})
    app = opened("data")
    shown = next(one.value for one in app.markdown if "Last change" in one.value)
    assert r"\<b\>b\*ees\*\</b\> \$x\$ \[a\]\(b\)" in shown


def test_the_history_lists_every_correction_and_what_each_training_used(insects):
    run = runs.create(insects, recipes.preset("quick"), "quick")
    journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]}, "Ada")
    journal.record(insects.id, {"action": "undo"}, "Ada")
    app = opened("data", view="History")
    table, used = (frame.value for frame in app.dataframe)
    assert list(table["revision"]) == [3, 2] and set(table["who"]) == {"Ada"}
    assert list(table["undone"]) == [False, True]
    assert list(used["run"]) == [run.name] and list(used["revision"]) == [1]


def test_a_run_says_which_revision_it_learned_from_and_that_there_is_a_newer_one(insects):
    run = runs.create(insects, recipes.preset("quick"), "quick")
    assert "Learned from bugs, revision 1." in texts(opened("train"))
    journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    app = opened("train", run=f"{run.name} · {run.id}")
    assert "revision 1. It is at revision 2 now." in texts(app)


def test_two_revisions_are_compared_image_by_image(insects):
    journal.record(insects.id, {"action": "relabel", "names": ["ants/0.jpg"], "to": "bees"})
    journal.record(insects.id, {"action": "exclude", "names": ["ants/1.jpg"]})
    app = opened("data", view="History")
    differences = app.dataframe[1].value
    assert set(differences["image"]) == {"ants/0.jpg", "ants/1.jpg"}
    app.number_input(key=f"compare_to {insects.id}").set_value(2).run()
    assert list(app.dataframe[1].value["image"]) == ["ants/0.jpg"]
    app.number_input(key=f"compare_from {insects.id}").set_value(2).run()
    assert len(app.dataframe) == 1  # Nothing differs: the journal alone.


def test_a_dataset_without_corrections_says_what_will_stand_there(insects):
    app = opened("data", view="History")
    assert "This is revision 1" in texts(app)
    assert "No training has used this dataset yet" in texts(app)


# --- findings ----------------------------------------------------------------------------------


@pytest.fixture
def looked_through(insects):
    """A dataset with an audit, so that none is begun."""
    wrong = Group(("ants/1.jpg",), "looks like bees", "bees", ("bees/0.jpg",))
    found = (
        Finding("label_error", (wrong,)),
        Finding("exact_duplicate", (Group(("ants/2.jpg", "ants/3.jpg", "ants/4.jpg"), "copies"),)),
        Finding("grayscale", (Group(("wasps/1.jpg",)),)),
    )  # fmt: skip
    notes = ("Nothing could be said of *cameras*.",)
    audits.save(insects.folder, Findings(insects.id, 1, insects.digest, found, notes, images=24))
    return insects


def opened_finding(kind: str, **parameters: str) -> AppTest:
    app = opened("data", view="Findings", **parameters)
    app.session_state[f"finding {kind}"] = True
    app.run()
    assert not app.exception, app.exception
    return app


@pytest.fixture
def audits_begin(monkeypatch):
    monkeypatch.setenv("HEADSTART_AUDIT_AFTER_IMPORT", "1")


def test_a_dataset_that_nobody_has_looked_through_is_audited_at_once(insects, audits_begin):
    app = opened("data")
    (job,) = jobs.of("audit", dataset=insects.id)
    assert job.values["revision"] == 1
    assert len(app.get("progress")) == 1
    opened("data")  # Somebody else looks too.
    assert len(jobs.of("audit")) == 1
    job.cancel()


def test_a_cancelled_audit_is_begun_again_only_if_somebody_asks(insects, audits_begin):
    opened("data")
    jobs.of("audit")[0].cancel()
    app = opened("data", view="Findings")
    waited(app, lambda page: any(button.key == "audit" for button in page.button))
    assert len(jobs.of("audit")) == 1
    app.button(key="audit").click().run()
    assert len(jobs.of("audit")) == 2
    jobs.of("audit")[0].cancel()


def test_findings_are_listed_the_most_severe_first_each_with_what_to_do(looked_through):
    app = opened("data", view="Findings")
    titles = [one.label for one in app.expander if one.label.startswith("**")]
    assert titles == [
        "**Probably a wrong label** · 1", "**Exact copies** · 1", "**Gray among color** · 1"
    ]  # fmt: skip
    assert r"of \*cameras\*" in texts(app)
    assert "finding=" not in sources(app)  # Nothing is fetched for what is not open.
    app = opened_finding("label_error")
    assert "finding=label_error" in sources(app)
    assert KINDS["label_error"].remedy in texts(app)


def test_one_click_excludes_all_copies_but_the_first(looked_through):
    app = opened_finding("exact_duplicate")
    app.button(key="all exact_duplicate").click().run()
    assert not app.exception, app.exception
    left = set(datasets.load(looked_through.id).table["name"])
    assert {"ants/2.jpg", "ants/3.jpg", "ants/4.jpg"} & left == {"ants/2.jpg"}
    assert "Exact copies" not in " ".join(one.label for one in app.expander)
    assert "The data has changed since" in texts(app)


def test_the_overview_says_what_to_look_at_and_leads_there(looked_through):
    app = opened("data")
    assert "Probably a wrong label (1), Exact copies (1)" in texts(app)
    app.button(key="to_findings").click().run()
    assert app.session_state["view"] == "Findings"
    assert any("Exact copies" in one.label for one in app.expander)


def test_a_dataset_without_faults_is_praised(insects):
    audits.save(insects.folder, Findings(insects.id, 1, insects.digest, (), images=24))
    app = opened("data", view="Findings")
    assert "Nothing was found" in app.success[0].value


# --- the map -----------------------------------------------------------------------------------


def with_map(dataset):
    """The dataset with a map of its images in a row."""
    table = pd.DataFrame({"name": dataset.table["name"], "x": range(len(dataset.table))})
    folder = dataset.folder / "maps"
    folder.mkdir()
    table.assign(y=0.0).to_parquet(folder / f"{dataset.revision}.parquet")
    return dataset


def test_a_map_is_drawn_when_somebody_asks(looked_through):
    app = opened("data", view="Map")
    assert not app.get("plotly_chart") and not jobs.of("map")
    app.button(key="draw_map").click().run()
    (job,) = jobs.of("map")
    assert job.values == {"dataset": looked_through.id, "revision": 1}
    job.cancel()


def test_the_map_is_colored_by_class_split_finding_or_error(looked_through):
    with_map(looked_through)
    app = opened("data", view="Map")
    assert len(legend(app)) == 3
    for key, expected in (
        ("split", {"training", "validation", "test"}),
        ("finding", {"nothing found", "Exact copies"}),
        ("error", {"not scored"}),
    ):
        app.segmented_control(key="color_by").set_value(key).run()
        assert not app.exception, app.exception
        assert expected <= legend(app), key


def legend(app: AppTest) -> set[str]:
    (chart,) = app.get("plotly_chart")
    return {trace["name"] for trace in json.loads(chart.proto.spec)["data"]}


def test_the_map_loses_what_was_excluded_and_names_are_shown_literally(looked_through):
    with_map(looked_through)
    journal.record(looked_through.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    journal.record(looked_through.id, {"action": "rename", "from": "bees", "to": HOSTILE})
    app = opened("data", view="Map")
    (chart,) = app.get("plotly_chart")
    traces = json.loads(chart.proto.spec)["data"]
    names = {point[0] for trace in traces for point in trace["customdata"]}
    assert names == set(looked_through.table["name"]) - {"ants/0.jpg"}
    assert any(name.startswith("&lt;b&gt;") for name in legend(app))


def test_a_map_that_lacks_images_says_how_many_and_is_drawn_again(looked_through):
    journal.record(looked_through.id, {"action": "exclude", "names": ["ants/0.jpg", "bees/0.jpg"]})
    smaller = with_map(datasets.load(looked_through.id))
    whole = opened("data", view="Map")
    assert not whole.info and not [one for one in whole.button if one.key == "draw_map"]
    journal.record(looked_through.id, {"action": "undo", "of": smaller.revision})
    app = opened("data", view="Map")
    every = len(looked_through.table)
    assert app.info[0].value.startswith(f"2 of {every} images are not on this map")
    app.button(key="draw_map").click().run()
    (job,) = jobs.of("map")
    job.cancel()
    assert job.values == {"dataset": smaller.id, "revision": smaller.revision + 1}


# --- the split ---------------------------------------------------------------------------------


def opened_split() -> AppTest:
    app = opened("data")
    app.session_state["dividing"] = True
    app.run()
    assert not app.exception, app.exception
    return app


def test_another_split_is_shown_before_it_is_saved_and_then_kept(looked_through):
    app = opened_split()
    app.slider(key="shares").set_value((50, 75)).run()
    assert "12 training (50.0%), 6 validation (25.0%), 6 test (25.0%)" in texts(app)
    assert datasets.load(looked_through.id).revision == 1
    app.button(key="save_split").click().run()
    assert not app.exception, app.exception
    parts = datasets.load(looked_through.id).table["part"]
    assert dict(parts.value_counts()) == {"train": 12, "val": 6, "test": 6}


def test_a_split_without_validation_is_refused_and_one_without_a_test_not_offered(looked_through):
    app = opened_split()
    assert app.slider(key="shares").max == 99
    app.slider(key="shares").set_value((80, 80)).run()
    assert not app.exception, app.exception
    assert "needs images for validation" in app.error[0].value
    assert not any(button.key == "save_split" for button in app.button)


def test_a_split_that_would_leave_nothing_to_learn_from_is_refused_in_words(looked_through):
    app = opened_split()
    app.selectbox(key="group_by").set_value("a pattern in the name").run()
    app.text_input(key="pattern").set_value("(").run()
    assert not app.exception, app.exception
    assert "The pattern is none" in app.error[0].value
    assert not any(button.key == "save_split" for button in app.button)


# --- bringing photos in ------------------------------------------------------------------------


def test_a_folder_of_the_server_becomes_a_dataset_in_the_background(
    class_photos, make_folder, monkeypatch
):
    root = make_folder(class_photos("ants", "bees", each=6), "root/photos").parent
    monkeypatch.setenv("HEADSTART_IMPORT_ROOT", str(root))
    app = opened("data")
    app.selectbox(key="server_path").set_value("photos").run()
    app.button(key="import_server").click().run()
    assert jobs.of("import")[0].values["server"] == "photos"
    waited(app, lambda page: any(metric.label == "Images" for metric in page.metric))
    assert [metric.value for metric in app.metric][:2] == ["12", "2"]


def test_an_import_that_is_refused_says_why_until_it_has_been_read(make_folder, monkeypatch):
    root = make_folder({"a/notes.txt": b"no photo"}, "root/photos").parent
    monkeypatch.setenv("HEADSTART_IMPORT_ROOT", str(root))
    app = opened("data")
    app.selectbox(key="server_path").set_value("photos").run()
    app.button(key="import_server").click().run()
    waited(app, lambda page: bool(page.error))
    assert "no images" in app.error[0].value
    # Also for one who comes later; until then it is not forgotten.
    app = opened("data")
    assert "no images" in app.error[0].value
    next(button for button in app.button if button.label == "Close").click().run()
    assert not app.error


def test_an_upload_that_found_no_room_can_be_tried_again_without_sending_it_again(
    class_photos, make_zip, monkeypatch
):
    settings().uploads.mkdir(parents=True)
    make_zip(class_photos("ants", "bees", each=6)).rename(uploads.path_of("up-1"))
    with monkeypatch.context() as full:
        full.setenv("HEADSTART_MIN_FREE_BYTES", str(10**18))
        job = jobs.start("import", {"upload": "up-1", "name": "bugs.zip"}, "bugs.zip")
        app = opened("data")
        waited(app, lambda page: bool(page.error))
    app.button(key=f"again {job.id}").click().run()
    waited(app, lambda page: any(metric.label == "Images" for metric in page.metric))
    assert not app.error
    assert [one["name"] for one in datasets.summaries()] == ["bugs"]


def test_folders_of_two_levels_are_asked_about_and_read_as_the_user_says(
    class_photos, make_folder, monkeypatch
):
    photos = class_photos("ants/male", "ants/female", "bees/male", "bees/female", each=4)
    root = make_folder(photos, "root/photos").parent
    monkeypatch.setenv("HEADSTART_IMPORT_ROOT", str(root))
    app = opened("data")
    app.selectbox(key="server_path").set_value("photos").run()
    app.button(key="import_server").click().run()
    assert not jobs.of("import")
    titles = app.radio(key="reading_chosen").options
    assert any("4 classes" in title for title in titles)
    two_levels = next(k for k, title in enumerate(titles) if "4 classes" in title)
    app.radio(key="reading_chosen").set_value(two_levels)
    submit(app, "Import")
    waited(app, lambda page: bool(page.metric))
    (facts,) = datasets.summaries()
    assert facts["classes"] == ["ants/female", "ants/male", "bees/female", "bees/male"]


@pytest.fixture
def server_folder(make_folder, monkeypatch):
    """Photos as a folder that the page may import from the server."""

    def make(photos: dict[str, bytes], name: str) -> None:
        root = make_folder({f"{name}/{file}": one for file, one in photos.items()}, "root")
        monkeypatch.setenv("HEADSTART_IMPORT_ROOT", str(root))

    return make


def send(app: AppTest, name: str) -> None:
    app.selectbox(key="server_path").set_value(name).run()
    app.button(key="import_server").click().run()
    assert not app.exception, app.exception


def chosen(app: AppTest) -> str:
    return app.selectbox(key="dataset").value


def test_what_an_import_made_is_open_and_stays_so_while_the_browser_names_the_former(
    insects, class_photos, server_folder, monkeypatch
):
    monkeypatch.setattr(widgets, "SECONDS_UNTIL_THE_BROWSER_KNOWS", 60.0)
    server_folder(class_photos("cats", "dogs", each=6), "pets")
    app = opened("data", dataset=f"bugs · {insects.id}")
    send(app, "pets")
    waited(app, lambda page: chosen(page).startswith("pets"))
    assert app.toast[0].value == "pets is imported: 12 images in 2 classes."
    # A look at a job that was on its way brings the former choice once more.
    app.selectbox(key="dataset").set_value(f"bugs · {insects.id}").run()
    assert chosen(app).startswith("pets")
    assert [metric.value for metric in app.metric][:2] == ["12", "2"]
    assert not app.exception and "is imported" not in texts(app)


def test_the_user_chooses_the_former_dataset_again_once_the_browser_knows(
    insects, class_photos, server_folder, monkeypatch
):
    monkeypatch.setattr(widgets, "SECONDS_UNTIL_THE_BROWSER_KNOWS", 0.0)
    server_folder(class_photos("cats", "dogs", each=6), "pets")
    app = opened("data", dataset=f"bugs · {insects.id}")
    send(app, "pets")
    waited(app, lambda page: chosen(page).startswith("pets"))
    app.selectbox(key="dataset").set_value(f"bugs · {insects.id}").run()
    assert chosen(app).startswith("bugs")


def test_photos_that_are_here_already_are_named_and_open_if_the_user_wants(
    insects, class_photos, server_folder
):
    photos = class_photos("cats", "dogs", each=6)
    server_folder(photos, "pets")
    importing.import_all(settings().import_root / "pets", "my *pets*")
    app = opened("data")
    app.selectbox(key="dataset").set_value(f"bugs · {insects.id}").run()
    send(app, "pets")
    waited(app, lambda page: "You already have these photos" in texts(page))
    assert r"You already have these photos as *my \*pets\**." in texts(app)
    assert chosen(app).startswith("bugs") and not app.toast
    button_of(app, "Open it").click().run()
    assert chosen(app).startswith("my *pets*")
    assert "You already have" not in texts(app)
    # Where they are open already there is nothing to open.
    send(app, "pets")
    waited(app, lambda page: "You already have these photos" in texts(page))
    assert not any(button.label == "Open it" for button in app.button)
    button_of(app, "Close").click().run()
    assert "You already have" not in texts(app)


def button_of(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


def test_an_import_that_another_session_started_is_told_of_and_opens_nothing(
    insects, class_photos, server_folder
):
    server_folder(class_photos("cats", "dogs", each=6), "pets")
    with storage.held(settings().home / "placing.lock", 5):  # It cannot end before the page looks.
        jobs.start("import", {"server": "pets"}, "pets")
        app = opened("data")
    waited(app, lambda page: "pets is imported: 12 images in 2 classes." in texts(page))
    assert chosen(app).startswith("bugs")
    button_of(app, "Open it").click().run()
    assert chosen(app).startswith("pets") and "is imported" not in texts(app)


def test_an_import_that_failed_beside_a_newer_one_says_why_until_another_one_begins(
    insects, class_photos, server_folder
):
    server_folder({"notes.txt": b"no photo"}, "empty")
    server_folder(class_photos("cats", "dogs", each=6), "pets")
    server_folder(class_photos("cars", "vans", each=6), "traffic")
    app = opened("data")
    app.selectbox(key="server_path").set_value("pets").run()
    # It ends after the page was drawn, which had seen it at work.
    failed = jobs.start("import", {"server": "empty"}, "empty")
    app.session_state["awaited"] = {failed.id}
    while failed.state in jobs.LIVE:
        time.sleep(0.1)
    app.button(key="import_server").click().run()
    assert "no images" in app.error[0].value
    waited(app, lambda page: chosen(page).startswith("pets"))
    assert "no images" in app.error[0].value
    send(app, "traffic")
    assert not app.error
    waited(app, lambda page: chosen(page).startswith("traffic"))


def test_photos_are_added_to_a_dataset_as_a_revision(
    insects, class_photos, make_folder, monkeypatch
):
    photos = {f"more/{name}": one for name, one in class_photos("ants", "moths", each=9).items()}
    monkeypatch.setenv("HEADSTART_IMPORT_ROOT", str(make_folder(photos, "root/more").parent))
    app = opened("data")
    app.selectbox(key="into").set_value(f"bugs · {insects.id}")
    app.selectbox(key="server_path").set_value("more").run()
    app.button(key="import_server").click().run()
    waited(app, lambda page: datasets.load(insects.id).revision == 2)
    assert datasets.load(insects.id).classes == ("ants", "bees", "moths", "wasps")
    assert len(datasets.summaries()) == 1


def test_a_dataset_is_packed_and_can_be_downloaded(insects):
    app = opened("data", view="History")
    app.button(key="pack").click().run()
    waited(app, lambda page: bool(page.get("link_button")))
    (link,) = app.get("link_button")
    assert link.proto.url == f"/api/datasets/{insects.id}/pack?revision=1"
    assert "Download the zip (0.0 MB)" in link.proto.label


def test_what_was_chosen_of_one_dataset_does_not_break_the_page_of_another(
    insects, class_photos, make_folder
):
    for number in range(3):
        journal.record(insects.id, {"action": "exclude", "names": [f"ants/{number}.jpg"]})
    others = importing.import_all(make_folder(class_photos("cats", "dogs", each=6), "pets"))
    for view in ("Images", "History"):
        app = opened("data", view=view, dataset=f"bugs · {insects.id}")
        if view == "Images":
            app.multiselect(key="classes").set_value(["wasps"]).run()
            app.multiselect(key="merge_from").set_value(["wasps", "bees"])
            app.selectbox(key="rename_from").set_value("wasps").run()
        app.selectbox(key="dataset").set_value(f"pets · {others.id}").run()
        assert not app.exception, app.exception
        if view == "Images":
            assert "label=wasps" not in sources(app)
