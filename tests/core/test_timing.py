from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core import machine, timing
from core.models import classifier as classifiers
from core.models.classifier import Classifier
from core.timing import Clocks, KeptAnswer
from core.training.fit import PASSES, time_of_image


class Watched:
    """A machine whose time goes by only when something works."""

    def __init__(self, shares: list[float] | None = None) -> None:
        self.now = 0.0
        self.did: list[str] = []
        self.shares = shares or [1.0]
        self.clocks = Clocks(lambda: self.now, self.processor)

    def processor(self, n_threads: int) -> tuple[float, float]:
        self.did.append(f"{n_threads} threads")
        share = self.shares[min(self.did.count(self.did[-1]), len(self.shares)) - 1]
        self.now += 0.01
        return share * n_threads * 0.01, n_threads * 0.01

    def working(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes so long each time it is done, the last figure from then on."""

        def work() -> None:
            self.now += seconds[min(self.did.count(name), len(seconds) - 1)]
            self.did.append(name)

        return work


def test_candidates_take_turns_after_each_has_warmed_up():
    here = Watched()
    works = {"a": here.working("a", 9.0, 1.0), "b": here.working("b", 9.0, 2.0)}
    found = timing.compare(works, 1, turns=3, clocks=here.clocks)
    assert [one for one in here.did if one in works] == ["a", "b"] * 4
    assert found.seconds == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert (found.typical("a"), found.fastest("b"), found.busy) == (1.0, 2.0, False)


def test_processors_are_tried_between_the_turns_with_as_many_threads_as_compute():
    here = Watched()
    timing.compare({"a": here.working("a", 1.0)}, 2, turns=2, clocks=here.clocks)
    assert here.did == ["a", "2 threads", "a", "2 threads", "a", "2 threads"]


def test_trying_the_processors_takes_a_small_share_of_the_time_of_short_turns():
    here = Watched()
    timing.compare({"a": here.working("a", 0.002)}, 2, turns=100, clocks=here.clocks)
    assert here.did.count("a") == 101 and 3 < here.did.count("2 threads") < 10


def test_slow_candidates_get_fewer_turns():
    here = Watched()
    found = timing.compare(
        {"a": here.working("a", 4.0)}, 1, turns=9, most_seconds=5.0, clocks=here.clocks
    )
    assert found.seconds == {"a": [4.0, 4.0]}


@pytest.mark.parametrize(("share", "busy"), [(0.97, False), (0.6, True)])
def test_who_does_not_get_the_processors_that_it_asks_for_is_on_a_busy_machine(share, busy):
    here = Watched([share])
    found = timing.compare({"a": here.working("a", 1.0)}, 2, clocks=here.clocks)
    assert found.busy is busy and found.share == pytest.approx(share)


def test_a_machine_that_becomes_busy_meanwhile_is_busy():
    here = Watched([1.0, 1.0, 0.3])
    assert timing.compare({"a": here.working("a", 1.0)}, 2, clocks=here.clocks).busy


def test_turns_that_differ_much_cannot_be_relied_on_whoever_disturbs_them():
    here = Watched()
    works = {"a": here.working("a", 1.0), "b": here.working("b", 1.0, 1.0, 1.0, 1.6, 1.7, 1.8)}
    assert timing.compare(works, 1, clocks=here.clocks).busy


def test_one_turn_that_hiccups_is_no_busy_machine():
    here = Watched()
    works = {"a": here.working("a", 1.0, 1.0, 7.0, 1.0)}
    assert not timing.compare(works, 1, clocks=here.clocks).busy


@pytest.mark.parametrize(("share", "flag"), [(1.0, {}), (0.5, {"milliseconds_busy": True})])
def test_the_time_of_an_image_says_whether_the_machine_was_busy(share, flag, trained, monkeypatch):
    here = Watched([share])
    monkeypatch.setattr(timing, "CLOCKS", here.clocks)
    model = classifiers.load(trained.run.model)
    works = here.working("image", 9.0, 9.0, 0.008, 0.007, 0.008)
    monkeypatch.setattr(Classifier, "outputs", lambda self, image: works())
    assert time_of_image(model) == {"milliseconds": 7.0, **flag}
    assert here.did.count("image") == 2 + PASSES


def test_threads_that_compute_count_their_own_time_and_that_which_passes():
    got, passed = timing.processor_time(2)
    assert 0 <= got <= 1.1 * passed + 0.05 and passed >= 2 * timing.PROBE_SECONDS


def test_an_answer_is_kept_for_its_facts_and_can_be_corrected_and_forgotten(home: Path):
    kept = KeptAnswer("speed", ("lite0", 64))
    assert kept.load() is None
    for rate in (3.0, 4.0):
        kept.save({"rate": rate})
        answer = KeptAnswer("speed", ("lite0", 64)).load()
        assert answer is not None and answer["rate"] == rate
    assert KeptAnswer("speed", ("lite0", 96)).load() is None
    kept.forget()
    kept.forget()
    assert kept.load() is None


def test_an_answer_of_another_machine_or_way_of_measuring_counts_no_more(home: Path, monkeypatch):
    kept = KeptAnswer("speed", ("lite0",))
    kept.save({"rate": 3.0})
    with monkeypatch.context() as other:
        other.setattr(machine, "processor", lambda: "another one")
        assert kept.load() is None
    with monkeypatch.context() as other:
        other.setattr(timing, "VERSION", timing.VERSION + 1)
        assert kept.load() is None
    assert kept.load()


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"'])
def test_a_damaged_answer_is_none(content: str, home: Path):
    kept = KeptAnswer("speed", ("lite0",))
    kept.save({"rate": 3.0})
    kept.path.write_text(content)
    assert kept.load() is None


def test_an_answer_that_finds_no_room_on_the_disk_is_not_kept_and_nothing_fails(home: Path):
    home.mkdir(exist_ok=True)
    (home / "cache").write_text("a file in the place of the folder")
    kept = KeptAnswer("speed", ("lite0",))
    kept.save({"rate": 3.0})
    assert kept.load() is None
