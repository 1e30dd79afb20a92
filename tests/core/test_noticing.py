from __future__ import annotations

from pathlib import Path

import pytest

from core.data import importing
from core.data.importing import import_all


def notes(path: Path) -> str:
    return " ".join(import_all(path).notes)


def test_an_ordinary_upload_needs_no_word(class_photos, make_zip):
    assert notes(make_zip(class_photos("ants", "bees"))) == ""


def test_a_class_that_the_split_leaves_out_of_training_is_named(class_photos, make_zip):
    layout = {f"train/{name}": c for name, c in class_photos("ants", "bees").items()}
    layout |= {f"val/{name}": c for name, c in class_photos("ants", "bees", "owls").items()}
    said = notes(make_zip(layout))
    assert "1 class (owls) with images for validation or test but none for training" in said


def test_images_on_both_sides_of_the_split_are_counted(class_photos, make_zip):
    photos = class_photos("ants", "bees")
    layout = {f"train/{name}": content for name, content in photos.items()}
    layout |= {f"test/{name}": photos[name] for name in ("ants/0.jpg", "bees/3.jpg")}
    assert "2 of the images are for training and for validation or test too" in notes(
        make_zip(layout)
    )


@pytest.mark.parametrize("wrapping", ["", "photos/", "photos/2026/"])
def test_empty_class_folders_are_named(class_photos, make_zip, wrapping: str):
    layout = {wrapping + name: content for name, content in class_photos("ants", "bees").items()}
    layout |= {wrapping + "owls/": b"", wrapping + "__MACOSX/": b"", wrapping + "ants/": b""}
    said = notes(make_zip(layout))
    assert said == "There is no image in the folder of 1 class (owls): left out."


def test_empty_folders_of_a_folder_are_named(class_photos, make_folder):
    path = make_folder(class_photos("ants", "bees"))
    (path / "owls").mkdir()
    assert "no image in the folder of 1 class (owls)" in notes(path)


def test_a_class_without_any_readable_image_is_named(class_photos, make_zip):
    layout = class_photos("ants", "bees") | {"owls/1.jpg": b"x", "owls/2.jpg": b"y"}
    assert "No image of 1 class (owls) could be read" in notes(make_zip(layout))


def test_classes_that_look_alike_are_named_and_kept_apart(class_photos, make_zip):
    found = import_all(make_zip(class_photos("Cat", "cat", "dog\u200b", "dog", "owl")))
    assert found.classes == ("Cat", "cat", "dog", "dog\u200b", "owl")
    assert "(Cat, cat, dog, dog\\u200b)" in found.notes[0]
    assert "owl" not in found.notes[0]


def test_emoji_that_are_joined_are_no_invisible_names(class_photos, make_zip):
    assert notes(make_zip(class_photos("👩\u200d👧", "猫"))) == ""


def test_a_class_of_one_image_is_named(class_photos, make_zip, photo):
    layout = class_photos("ants", "bees") | {"owls/1.jpg": photo(77)}
    assert "single image of 1 class (owls)" in notes(make_zip(layout))


def test_many_names_are_counted_and_the_first_are_named(class_photos, make_zip):
    layout = class_photos(*(f"class {number}" for number in range(9)), each=1)
    assert "of 9 classes (class 0, class 1, class 2, class 3, class 4 and 4 more)" in notes(
        make_zip(layout)
    )


def test_the_same_images_with_something_else_to_say_are_another_dataset(class_photos, make_zip):
    photos = class_photos("ants", "bees")
    plain = import_all(make_zip(photos))
    assert import_all(make_zip(photos)).id == plain.id
    assert import_all(make_zip(photos | {"owls/": b""})).id != plain.id


def test_an_archive_in_the_archive_is_listed_as_such(class_photos, make_zip):
    found = import_all(make_zip(class_photos("ants", "bees") | {"more.zip": b"PK\3\4"}))
    assert found.skipped[0]["why"] == importing.reason_to_skip(
        importing.Member("more.zip", 4, None)
    )
    assert "unpack it first" in found.skipped[0]["why"]
