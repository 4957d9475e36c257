"""Samplings one after the other, stopped between two steps or before their turn."""

import threading

import pytest

from gradios.desk import Desk
from gradios.running import Done, Line, StoppedError, follow


def test_a_sampling_is_stopped_between_two_steps_and_others_go_on():
    line = Line()
    mine, other = line.join("me"), line.join("you")

    def work(report):
        for k in range(5):
            report("phase", k + 1, 5)
            if k == 1:
                line.stop("me")
        return "end"

    with pytest.raises(StoppedError):
        list(follow(work, mine))
    assert list(follow(lambda report: report("phase", 1, 1) or "end", other))[-1] == Done("end")


def test_samplings_go_on_one_after_the_other_and_can_be_stopped_in_line():
    line = Line()
    first, second, third = (line.join(visitor) for visitor in ("me", "you", "her"))
    assert list(line.wait(first)) == []
    waiting = line.wait(second)
    next(waiting)
    line.stop("you")
    with pytest.raises(StoppedError):
        next(waiting)
    for event in (second, first):
        line.leave(event)
    assert list(line.wait(third)) == []


def test_a_stop_holds_for_a_sampling_that_has_not_joined_yet_and_not_for_the_next():
    line = Line()
    line.expect("me")
    line.stop("me")
    assert line.join("me").is_set()
    assert not line.join("me").is_set()


def test_a_generator_that_is_closed_stops_its_work():
    ended, going = threading.Event(), threading.Event()

    def work(report):
        try:
            for k in range(1000):
                report("phase", k + 1, 1000)
                going.wait(5)
        finally:
            ended.set()

    steps = follow(work, threading.Event())
    next(steps)
    steps.close()
    going.set()
    assert ended.wait(5)


def test_a_closed_tab_keeps_its_place_and_its_folder_until_the_work_has_ended():
    desk, going, folders = Desk(), threading.Event(), []

    def work(folder, report):
        folders.append(folder)
        report("phase", 1, 2)
        going.wait(5)
        (folder / "late.txt").write_text("written after the tab was closed")
        report("phase", 2, 2)

    mine = desk.sample("me", 1, work)
    next(mine)
    mine.close()
    waiting = desk.line.wait(desk.line.join("you"))
    next(waiting)
    going.set()
    list(waiting)
    assert not folders[0].exists()
