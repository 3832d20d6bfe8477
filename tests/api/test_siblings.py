"""Metrics of workers side by side, scraped at any of them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_gateway.api.metrics import PrometheusMeter
from router_gateway.api.siblings import Siblings


def read(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class Worker:
    """A meter with something of each kind, in the folder that it shares."""

    def __init__(self, directory, index, *, answers, depth):
        self.meter = PrometheusMeter([])
        self.depth = depth
        self.meter.watch("router_depth", "rows waiting", lambda: self.depth)
        self.answer(answers)
        self.siblings = Siblings(self.meter.text, directory, index)

    def answer(self, times):
        for _ in range(times):
            self.meter.finished(api="chat", status=200, seconds=0.02)
            self.meter.answered(None, model="any", status=200, stream=False)


REQUESTS = ("router_requests_total", "2xx", "chat", "false", "none", "none", "other")


def test_whoever_is_scraped_says_what_all_have_counted(tmp_path):
    first, second = Worker(tmp_path, 0, answers=3, depth=5), Worker(tmp_path, 1, answers=4, depth=6)
    first.siblings.leave()
    second.siblings.leave()
    for each in (first, second):
        found = read(each.siblings.text())
        assert found[REQUESTS] == 7
        assert found[("router_request_duration_seconds_count", "2xx", "chat")] == 7
        assert found[("router_request_duration_seconds_sum", "2xx", "chat")] == pytest.approx(0.14)
        assert found[("router_request_duration_seconds_bucket", "0.025", "2xx", "chat")] == 7
        assert found[("router_request_duration_seconds_bucket", "0.01", "2xx", "chat")] == 0


def test_levels_are_told_worker_by_worker(tmp_path):
    first, second = Worker(tmp_path, 0, answers=0, depth=5), Worker(tmp_path, 1, answers=0, depth=6)
    second.siblings.leave()
    found = read(first.siblings.text())
    assert (found["router_depth", "0"], found["router_depth", "1"]) == (5, 6)
    assert ("router_depth",) not in found


def test_what_is_scraped_is_new_of_the_worker_that_answers(tmp_path):
    worker = Worker(tmp_path, 0, answers=1, depth=0)
    worker.siblings.leave()
    worker.answer(1)
    assert read(worker.siblings.text())[REQUESTS] == 2


def test_what_dead_workers_counted_stays_and_their_levels_go(tmp_path):
    for answers in (2, 3):  # one after the other in the same seat
        Worker(tmp_path, 1, answers=answers, depth=9).siblings.leave()
    third = Worker(tmp_path, 1, answers=4, depth=1)
    other = Worker(tmp_path, 0, answers=0, depth=0)
    assert read(third.siblings.text())[REQUESTS] == 9
    third.siblings.leave()
    found = read(other.siblings.text())
    assert found[REQUESTS] == 9
    assert {name: value for name, value in found.items() if name[0] == "router_depth"} == {
        ("router_depth", "0"): 0,
        ("router_depth", "1"): 1,
    }
