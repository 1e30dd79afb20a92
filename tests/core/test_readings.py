from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from core.data import importing, layout
from core.data.cells import plain_cell, safe_cell
from core.errors import DatasetRefused
from tests.conftest import make_photo

TWO_LEVELS = tuple(
    f"birds/{species}/{sex}/{n}.jpg"
    for species in ("eagle", "owl") for sex in ("female", "male") for n in range(3)
)  # fmt: skip


def keys(names, **tables: str) -> dict[str, tuple[str, ...]]:
    """The classes of each reading by its key, the likeliest first."""
    texts = {f"{name}.csv": text for name, text in tables.items()}
    return {one.key: one.classes for one in layout.readings(names, texts)}


def placed(names, reading: str, **tables: str) -> dict[str, tuple[str, str | None]]:
    texts = {f"{name}.csv": text for name, text in tables.items()}
    return {p.name: (p.label, p.part) for p in layout.place(names, texts, reading)}


def table(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def test_two_levels_of_folders_are_a_choice():
    assert keys(TWO_LEVELS) == {
        "folders": ("eagle", "owl"),
        "folders/2": ("eagle/female", "eagle/male", "owl/female", "owl/male"),
        "inner": ("female", "male"),
    }
    assert placed(TWO_LEVELS, "folders/2")["birds/owl/male/0.jpg"] == ("owl/male", None)
    assert placed(TWO_LEVELS, "inner")["birds/owl/male/0.jpg"] == ("male", None)
    assert placed(TWO_LEVELS, "") == placed(TWO_LEVELS, "folders")


def test_the_likeliest_reading_is_the_only_default_and_each_has_an_example():
    found = layout.readings(TWO_LEVELS, {})
    assert [one.default for one in found] == [True, False, False]
    assert found[1].example == "birds/owl/male/2.jpg is owl/male"


def test_two_levels_inside_a_split_are_a_choice_too():
    names = [f"{part}/{n[6:]}" for part in ("train", "test") for n in TWO_LEVELS]
    assert list(keys(names)) == ["folders", "folders/2", "inner"]
    assert placed(names, "folders/2")["test/owl/male/0.jpg"] == ("owl/male", "test")


def test_one_level_of_folders_is_no_question():
    assert list(keys([f"{label}/{n}.jpg" for label in "ab" for n in range(4)])) == ["folders"]


def test_a_folder_for_each_photo_is_no_level_of_classes():
    assert list(keys([f"{label}/{n}/photo.jpg" for label in "ab" for n in range(9)])) == ["folders"]


IMAGES = tuple(f"img/{n}.jpg" for n in range(8))


def test_a_label_column_told_by_its_name_is_no_question():
    rows = [f"{n}.jpg,{'ab'[n % 2]},{'xyz'[n % 3]}" for n in range(8)]
    assert list(keys(IMAGES, labels=table("file,label,camera", *rows))) == ["labels.csv:label"]


@pytest.mark.parametrize("header", ["file,species,class", "file,kind,camera"])
def test_of_several_columns_that_may_be_labels_each_is_a_choice(header: str):
    rows = [f"{n}.jpg,{'ab'[n % 2]},{'xyz'[n % 3]}" for n in range(8)]
    text = table(header, *rows)
    first, second = header.split(",")[1:]
    assert set(keys(IMAGES, labels=text)) == {f"labels.csv:{first}", f"labels.csv:{second}"}
    found = placed(IMAGES, f"labels.csv:{second}", labels=text)
    assert [label for label, _ in found.values()] == ["xyz"[n % 3] for n in range(8)]


def test_tables_of_different_images_are_one_reading_and_give_the_parts():
    train = table("file,label", *(f"{n}.jpg,{'ab'[n % 2]}" for n in range(5)))
    test = table("file,label", *(f"{n}.jpg,{'ab'[n % 2]}" for n in range(5, 8)))
    assert list(keys(IMAGES, train=train, test=test)) == ["tables:label"]
    found = placed(IMAGES, "", train=train, test=test)
    assert [part for _, part in found.values()].count("train") == 5
    assert found["img/7.jpg"] == ("b", "test")


def test_a_table_that_says_the_same_of_all_images_is_not_joined_to_another():
    train = table("file,label", *(f"{n}.jpg,{'ab'[n % 2]}" for n in range(5)))
    sample = table("file,label", *(f"{n}.jpg,a" for n in range(5, 8)))
    assert set(placed(IMAGES, "", train=train, sample_submission=sample)) == set(IMAGES[:5])


def test_tables_that_disagree_are_a_choice():
    one = table("file,label", *(f"{n}.jpg,{'ab'[n % 2]}" for n in range(8)))
    other = table("file,label", *(f"{n}.jpg,{'ab'[n // 4]}" for n in range(8)))
    assert list(keys(IMAGES, ada=one, bob=other)) == ["ada.csv:label", "bob.csv:label"]


def test_a_table_that_repeats_the_folders_is_no_question_and_another_is():
    names = [f"{'ab'[n % 2]}/{n}.jpg" for n in range(8)]
    same = table("file,label", *(f"{n}.jpg,{'ab'[n % 2]}" for n in range(8)))
    other = table("file,species", *(f"{n}.jpg,{'xyz'[n % 3]}" for n in range(8)))
    assert list(keys(names, labels=same)) == ["folders"]
    assert list(keys(names, labels=other)) == ["folders", "labels.csv:species"]


def test_a_row_that_may_mean_two_files_means_neither():
    names = ["x/1.jpg", "y/1.jpg", "x/2.jpg", "x/3.jpg"]
    text = table("file,label", "1.jpg,a", "2.jpg,a", "3.jpg,b", "y/1.jpg,b")
    found = placed(names, "labels.csv:label", labels=text)
    assert found == {
        "x/2.jpg": ("a", None), "x/3.jpg": ("b", None), "y/1.jpg": ("b", None),
    }  # fmt: skip


def test_a_table_called_train_means_the_images_in_the_folder_train():
    names = [f"{part}/{n}.jpg" for part in ("train", "test") for n in range(4)]
    text = table("id,label", *(f"{n},{'ab'[n % 2]}" for n in range(4)))
    assert set(placed(names, "", train=text)) == {f"train/{n}.jpg" for n in range(4)}


def test_a_table_with_decomposed_letters_means_files_with_composed_ones():
    text = table("file,label", "Ka\u0308fer1.jpg,Ka\u0308fer", "b.jpg,b")
    assert placed(["K\xe4fer1.jpg", "b.jpg"], "", labels=text)["K\xe4fer1.jpg"] == (
        "K\xe4fer",
        None,
    )


def test_an_unknown_reading_is_refused_with_those_there_are():
    with pytest.raises(DatasetRefused) as refusal:
        layout.place(TWO_LEVELS, {}, "sideways")
    assert "folders/2" in refusal.value.remedy


def test_readings_of_an_upload_need_no_image_to_be_read(make_zip):
    path = make_zip({name: b"no image at all" for name in TWO_LEVELS})
    assert [one.key for one in importing.readings(path)] == ["folders", "folders/2", "inner"]


def test_an_upload_is_imported_by_the_chosen_reading(make_zip):
    path = make_zip({name: make_photo(seed) for seed, name in enumerate(TWO_LEVELS)})
    found = importing.import_all(path, reading="folders/2")
    assert found.classes == ("eagle/female", "eagle/male", "owl/female", "owl/male")
    assert importing.import_all(path).classes == ("eagle", "owl")


@pytest.mark.parametrize("text", ["", "a", "=1+1", "'=1", "''", "-x", "\t", "O'Neill", "@'", "+"])
def test_a_cell_made_safe_starts_no_formula_and_can_be_read_back(text: str):
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe_cell(text), "x"])
    (row,) = csv.reader(io.StringIO(buffer.getvalue(), newline=""))
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain_cell(row[0]) == text


PACKED = "file,label,split,name\r\n"


def test_a_table_that_was_packed_says_what_files_were_called():
    text = PACKED + "a/1.jpg,'=A,train,old/1.jpg\r\nb/2.jpg,b,test,old/2.jpg\r\n"
    (reading,) = layout.readings(["a/1.jpg", "b/2.jpg"], {"labels.csv": text})
    found = layout.place(["a/1.jpg", "b/2.jpg"], {"labels.csv": text})
    assert reading.key == "packed"
    assert [(p.label, p.part, p.called) for p in found] == [
        ("=A", "train", "old/1.jpg"), ("b", "test", "old/2.jpg"),
    ]  # fmt: skip


def test_a_packed_table_is_found_below_a_wrapping_folder():
    text = PACKED + "a/1.jpg,A,,old/1.jpg\r\nb/2.jpg,b,,old/2.jpg\r\n"
    found = layout.place(["x/a/1.jpg", "x/b/2.jpg"], {"x/labels.csv": text})
    assert [p.called for p in found] == ["old/1.jpg", "old/2.jpg"]


@pytest.mark.parametrize(
    "rows",
    [
        "a/1.jpg,A,,same.jpg\r\nb/2.jpg,B,,same.jpg\r\n",
        "a/1.jpg,A,,../../evil.jpg\r\nb/2.jpg,B,,2.jpg\r\n",
        "a/1.jpg,A,,/etc/1.jpg\r\nb/2.jpg,B,,2.jpg\r\n",
        "a/1.jpg,A,,1.jpg\r\n",
    ],
)
def test_a_packed_table_that_was_tampered_with_gives_no_names(rows: str):
    found = layout.place(["a/1.jpg", "b/2.jpg"], {"labels.csv": PACKED + rows})
    assert [(Path(p.name).name, p.called) for p in found] == [("1.jpg", ""), ("2.jpg", "")]
