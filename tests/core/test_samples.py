from __future__ import annotations

from core.data import samples


def test_the_sample_holds_every_digit_about_as_often():
    *_, last = samples.import_sample()
    digits = last.dataset
    assert digits is not None and digits.name == samples.NAME
    assert digits.classes == tuple("0123456789")
    assert len(digits.table) == 1797
    assert digits.table["label"].value_counts().between(170, 190).all()
    assert digits.skipped == ()
    assert digits.table["width"].nunique() == 1
    assert (digits.table["width"] == digits.table["height"]).all()
