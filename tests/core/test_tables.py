from __future__ import annotations

import time
import tracemalloc

import pytest

from core.data import importing, labels, tables


@pytest.mark.parametrize(
    "text",
    [
        '"a","b"\n"c","d"\n,' + '"' * 1500,
        '"a","b"\n' + '"' * 100_000,
        'file,label\n1.jpg,"' + "x\n" * 5000,
    ],
)
def test_a_table_of_quotes_costs_no_time(text: str):
    began = time.process_time()
    tables.read_table(text)
    assert time.process_time() - began < 2


def test_millions_of_empty_rows_take_no_memory():
    text = "a,b\n" + ",\n" * 1_000_000
    tracemalloc.start()
    try:
        assert tables.read_table(text) == [["a", "b"]]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_a_table_of_too_many_rows_or_columns_is_none(monkeypatch: pytest.MonkeyPatch):
    wide = ",".join(["a"] * 1_001)
    assert tables.read_table(f"{wide}\n{wide}\n") == []
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    assert len(tables.read_table("a,b\n" * 3)) == 3
    assert tables.read_table("a,b\n" * 4) == []


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("file;label;share\n1.jpg;a;0,5\n2.jpg;b;0,7\n", 3),
        ("file\tlabel, in English\n1.jpg\tcat\n2.jpg\tdog\n", 2),
        ("a|b,c\n1|x,y\n2|z\n3|z\n", 2),
        ('file, label\n1.jpg, "cats, big"\n', 2),
        ("'file','label'\n'1.jpg','cats, big'\n", 2),
        ('file,label\n1.jpg,"a;b\nc;d"\n', 2),
    ],
)
def test_the_sign_that_divides_the_cells_is_that_which_fits_most_rows(text: str, width: int):
    rows = tables.read_table(text)
    assert len(rows) > 1 and {len(row) for row in rows} == {width}


def test_a_packed_table_with_an_endless_cell_is_passed_over():
    text = "file,label,split,name\n" + '"' + "x" * 200_000 + '",a,,b\n'
    assert labels.packed(["1.jpg"], "labels.csv", text) == []


def test_tables_beyond_the_most_bytes_are_listed(make_zip, class_photos, monkeypatch):
    monkeypatch.setattr(importing, "LARGEST_TABLE", 30)
    monkeypatch.setattr(importing, "LARGEST_TABLES", 40)
    small, large = b"file,label\n1.jpg,a\n", b"x" * 31
    files = class_photos("ants", "bees") | {"a.csv": large, "b.csv": small, "c.csv": small}
    found = importing.import_all(make_zip(files | {"d.csv": small}))
    assert len(found.table) == 8
    left_out = [one["file"] for one in found.skipped if one["why"] == importing.TOO_LARGE]
    assert left_out == ["a.csv", "d.csv"]
