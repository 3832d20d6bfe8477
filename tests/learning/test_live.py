import threading

from policies.baseline import BestOnAverage
from router_gateway.core.types import NamedPolicy
from router_gateway.learning.live import LivePolicy
from router_gateway.testing import steady

TRAIN = steady().experience(30, seed=1)


def named(version):
    return NamedPolicy(name="best_on_average", version=version, policy=BestOnAverage().fit(TRAIN))


def test_a_swap_returns_what_it_replaces():
    first, second = named(1), named(2)
    live = LivePolicy(first)
    assert live.current() is first
    assert live.swap(second) is first
    assert live.current() is second


def test_who_reads_while_others_swap_sees_one_whole_policy():
    offered = [named(version) for version in range(50)]
    live = LivePolicy(offered[0])
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            seen.append(live.current())

    reader = threading.Thread(target=read)
    reader.start()
    replaced = [live.swap(policy) for policy in offered[1:]]
    done.set()
    reader.join()
    assert replaced == offered[:-1]
    assert {id(policy) for policy in seen} <= {id(policy) for policy in offered}
    versions = [policy.version for policy in seen]
    assert versions == sorted(versions)
