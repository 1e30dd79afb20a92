from __future__ import annotations

import pytest

from core.data import labels, layout
from core.data.labels import Placed
from core.errors import DatasetRefused


def placed(*names: str, **tables: str) -> dict[str, tuple[str, str | None]]:
    """Class and part of each image by its name."""
    texts = {f"{name}.csv": text for name, text in tables.items()}
    return {one.name: (one.label, one.part) for one in layout.place(names, texts)}


def refusal(*names: str, **tables: str) -> DatasetRefused:
    with pytest.raises(DatasetRefused) as caught:
        placed(*names, **tables)
    return caught.value


def below(wrap: str, *names: str) -> list[str]:
    return [f"{wrap}{name}" for name in names]


SORTED = ("ants/1.jpg", "ants/2.jpg", "bees/1.jpg")
PRESPLIT = ("train/ants/1.jpg", "train/bees/2.jpg", "val/ants/3.jpg", "val/bees/4.jpg")


@pytest.mark.parametrize("wrap", ["", "photos/", "my photos/2026/final/", "train/", "a/a/"])
def test_the_folder_of_an_image_is_its_class_however_deep_all_are_wrapped(wrap: str):
    found = placed(*below(wrap, *SORTED))
    assert list(found.values()) == [("ants", None), ("ants", None), ("bees", None)]


def test_folders_inside_a_class_belong_to_it():
    found = placed("cats/siamese/1.jpg", "cats/2.jpg", "dogs/pug/old/3.jpg")
    assert [label for label, _ in found.values()] == ["cats", "cats", "dogs"]


@pytest.mark.parametrize("wrap", ["", "data/", "data/v1.0/"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val", "dev"])
def test_a_split_by_folders_is_kept(wrap: str, val: str):
    names = ["train/ants/1.jpg", "train/bees/2.jpg", f"{val}/ants/3.jpg", "test/bees/4.jpg"]
    assert list(placed(*below(wrap, *names)).values()) == [
        ("ants", "train"),
        ("bees", "train"),
        ("ants", "val"),
        ("bees", "test"),
    ]


def test_a_split_without_a_test_part_is_kept():
    parts = [part for _, part in placed(*PRESPLIT).values()]
    assert parts == ["train", "train", "val", "val"]


def test_a_split_whose_parts_have_a_wrapping_folder_inside_is_kept():
    found = placed(*(name.replace("/", "/images/", 1) for name in PRESPLIT))
    assert list(found.values()) == list(placed(*PRESPLIT).values())


def test_classes_that_are_really_called_train_and_test_are_classes():
    found = placed("train/1.jpg", "train/2.jpg", "test/3.jpg")
    assert list(found.values()) == [("train", None), ("train", None), ("test", None)]


def test_a_class_called_train_among_others_is_a_class():
    found = placed("train/1.jpg", "bus/2.jpg", "tram/3.jpg")
    assert [label for label, _ in found.values()] == ["train", "bus", "tram"]


@pytest.mark.parametrize("stray", ["test/9.jpg", "train/9.jpg", "val/preview.png", "train/README"])
def test_an_unsorted_picture_does_not_turn_the_parts_into_classes(stray: str):
    found = placed(*PRESPLIT, stray)
    assert {label for label, _ in found.values()} == {"ants", "bees"}
    assert {part for _, part in found.values()} == {"train", "val"}
    assert stray not in found


@pytest.mark.parametrize("stray", ["photos/preview.jpg", "photos/README", "photos/LICENSE"])
def test_a_file_beside_the_class_folders_does_not_hide_them(stray: str):
    found = placed(*below("photos/", *SORTED), stray)
    assert {label for label, _ in found.values()} == {"ants", "bees"}
    assert stray not in found


def test_an_image_at_the_top_beside_class_folders_has_no_class():
    assert set(placed(*SORTED, "cover.jpg")) == set(SORTED)


@pytest.mark.parametrize("header", ["file,label", "filename,class", "image_id,species", "x,y"])
def test_a_table_beside_the_images_gives_their_classes(header: str):
    found = placed("img/1.jpg", "img/2.jpg", labels=f"{header}\n1.jpg,ants\n2.jpg,bees\n")
    assert found == {"img/1.jpg": ("ants", None), "img/2.jpg": ("bees", None)}


@pytest.mark.parametrize("key", ["{0}.jpg", "{0}", "img/{0}.jpg", "data/img/{0}.jpg", " {0}.jpg "])
def test_a_table_may_name_an_image_by_path_by_name_or_without_its_ending(key: str):
    rows = "".join(f"{key.format(n)},{label}\n" for n, label in [("a1", "ants"), ("b2", "bees")])
    found = placed("data/img/a1.jpg", "data/img/b2.jpg", labels="file,label\n" + rows)
    assert [label for label, _ in found.values()] == ["ants", "bees"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_as_any_program_writes_it(separator: str, end: str, mark: str):
    rows = [["file", "label"], ["1.jpg", "ants"], ["2.jpg", "bees"], ["3.jpg", "ants"]]
    text = mark + end.join(separator.join(row) for row in rows) + end
    assert list(placed("1.jpg", "2.jpg", "3.jpg", labels=text).values()) == [
        ("ants", None),
        ("bees", None),
        ("ants", None),
    ]


def test_a_quoted_label_may_hold_the_separator():
    text = 'file,label\n1.jpg,"cats, big"\n2.jpg,"say ""cat"""\n'
    labels = [label for label, _ in placed("1.jpg", "2.jpg", labels=text).values()]
    assert labels == ["cats, big", 'say "cat"']


def test_labels_stay_the_text_they_are():
    labels = ["001", "1", "NA", "None", "True", "1e5", "1.0", "nan", "null"]
    names = [f"img_{number}.jpg" for number in range(len(labels))]
    text = "file,label\n" + "".join(
        f"{n},{label}\n" for n, label in zip(names, labels, strict=True)
    )
    assert [label for label, _ in placed(*names, labels=text).values()] == labels


def test_folder_names_stay_the_text_they_are():
    labels = ["001", "1", "NA", "None", "1e5"]
    assert [label for label, _ in placed(*(f"{x}/1.jpg" for x in labels)).values()] == labels


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_table_may_bring_the_split_in_any_column(column: int):
    rows = [["file", "label"], ["1.jpg", "ants"], ["2.jpg", "bees"], ["3.jpg", "ants"]]
    parts = ["split", "train", "Valid", "testing"]
    for row, part in zip(rows, parts, strict=True):
        row.insert(column, part)
    text = "".join(",".join(row) + "\n" for row in rows)
    found = placed("1.jpg", "2.jpg", "3.jpg", labels=text)
    assert list(found.values()) == [("ants", "train"), ("bees", "val"), ("ants", "test")]


def test_a_column_of_parts_is_never_taken_for_the_labels():
    names = [f"img_{number}.jpg" for number in range(8)]
    rows = [
        f"{name},{'abcd'[n % 4]},{'train' if n < 6 else 'test'}" for n, name in enumerate(names)
    ]
    found = placed(*names, labels="\n".join(["file,breed,split", *rows]) + "\n")
    assert [label for label, _ in found.values()] == list("abcdabcd")


def test_labels_that_look_like_file_names_may_come_first():
    found = placed("0.png", "1.png", "2.png", labels="label,file\n1,0.png\n0,1.png\n1,2.png\n")
    assert found == {"0.png": ("1", None), "1.png": ("0", None), "2.png": ("1", None)}


def test_a_table_is_used_where_the_folders_are_only_parts():
    found = placed("train/1.jpg", "test/2.jpg", labels="file,label\n1.jpg,ants\n2.jpg,bees\n")
    assert [label for label, _ in found.values()] == ["ants", "bees"]


def test_class_folders_win_over_a_table():
    found = placed(*SORTED, notes="file,label\nants/1.jpg,x\nants/2.jpg,y\nbees/1.jpg,z\n")
    assert {label for label, _ in found.values()} == {"ants", "bees"}


def test_a_table_about_something_else_is_passed_over():
    other = "city,people\nRome,3\nOslo,1\n"
    found = placed("1.jpg", "2.jpg", cities=other, labels="file,label\n1.jpg,ants\n2.jpg,bees\n")
    assert len(found) == 2


def test_an_image_without_a_row_has_no_class():
    text = "file,label\n1.jpg,ants\n2.jpg,bees\n3.jpg,\n9.jpg,ants\n"
    assert set(placed("1.jpg", "2.jpg", "3.jpg", "4.jpg", labels=text)) == {"1.jpg", "2.jpg"}


@pytest.mark.parametrize("names", [["ants/1.jpg"], ["photos/ants/1.jpg", "photos/ants/2.jpg"]])
def test_one_class_is_refused_by_its_name(names: list[str]):
    assert refusal(*names).what == "There are images of one class only (ants)."


def test_images_without_folders_or_table_are_refused():
    assert "not sorted into classes" in refusal("1.jpg", "2.jpg").what


def test_a_table_of_one_class_is_refused():
    assert "not sorted" in refusal("1.jpg", "2.jpg", labels="file,label\n1.jpg,a\n2.jpg,a\n").what


def test_no_images_are_refused():
    assert refusal().what == "There are no images in it."


@pytest.mark.parametrize("text", ["", "\n", "file,label\n", "\0", '"', "a\nb\nc\n", ",\n,\n"])
def test_a_table_that_is_none_is_passed_over(text: str):
    assert labels.from_table(["1.jpg", "2.jpg"], text) == []


@pytest.mark.parametrize(
    "name",
    [
        "__MACOSX/ants/._1.jpg",
        "ants/.DS_Store",
        "ants/Thumbs.db",
        "ants/desktop.ini",
        ".git/objects/1.jpg",
        "ants/._1.jpg",
        "photos/@eaDir/1.jpg",
    ],
)
def test_what_programs_leave_behind_is_junk(name: str):
    assert layout.is_junk(name)


@pytest.mark.parametrize("name", ["ants/1.jpg", "Thumbs/1.jpg", "a.b/1.jpg", "MACOSX/1.jpg"])
def test_photos_are_no_junk(name: str):
    assert not layout.is_junk(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("1.JPG", True), ("1.heic", True), ("IMG_1", True), ("1.txt", False), ("1.jpg.zip", False)],
)
def test_an_image_is_told_by_its_ending_or_by_having_none(name: str, meant: bool):
    assert layout.is_image_name(name) is meant


def test_the_same_names_in_another_order_are_placed_alike():
    assert placed(*reversed(PRESPLIT)) == placed(*PRESPLIT)
    assert layout.place(PRESPLIT, {})[0] == Placed("train/ants/1.jpg", "ants", "train")
