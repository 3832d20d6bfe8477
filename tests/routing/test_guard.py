import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from router_gateway.core.types import Floats
from router_gateway.routing.guard import Guard

shapes = st.shared(st.tuples(st.integers(1, 5), st.integers(1, 5)), key="shape")
values = shapes.flatmap(lambda shape: st_numpy.arrays(np.float64, shape, elements=st.floats(-2, 2)))
doubts = shapes.flatmap(lambda shape: st_numpy.arrays(np.float64, shape, elements=st.floats(0, 1)))


def test_an_endpoint_is_admitted_when_its_lead_clears_z_standard_errors():
    value = np.array([[0.5, 0.7, 0.9, 0.4]])
    stddev = np.array([[0.3, 0.4, 0.4, 0.0]])
    # errors of the difference to column 0: sqrt(0.09 + 0.16) = 0.5, 0.5 and 0.3; leads 0.2, 0.4 and -0.1
    assert Guard(z=0.3).admits(value, stddev, 0).tolist() == [[True, True, True, False]]
    assert Guard(z=0.6).admits(value, stddev, 0).tolist() == [[True, False, True, False]]
    assert Guard(z=0.9).admits(value, stddev, 0).tolist() == [[True, False, False, False]]


def test_what_is_known_exactly_needs_no_lead():
    assert Guard(z=3.0).admits(np.array([[0.5, 0.5, 0.499]]), np.zeros((1, 3)), 0).tolist() == [[True, True, False]]


def test_without_a_guard_everything_is_admitted():
    assert Guard().admits(np.array([[0.9, 0.1]]), np.array([[5.0, 5.0]]), 0).all()


def test_a_query_nobody_knows_anything_about_stays_on_the_default():
    stddev = np.array([[0.5, 0.5, 0.2], [0.5, 0.5, 0.4]])
    admitted = Guard(novelty_stddev_max=0.3).admits(np.zeros((2, 3)), stddev, 1)
    assert admitted.tolist() == [[True, True, True], [False, True, False]]


@given(values, doubts, st.floats(0, 5), st.floats(0, 2), st.data())
def test_the_default_is_always_admitted(value: Floats, stddev: Floats, z: float, novelty: float, data: st.DataObject):
    default = data.draw(st.integers(0, value.shape[1] - 1))
    assert Guard(z=z, novelty_stddev_max=novelty).admits(value, stddev, default)[:, default].all()


@given(values, doubts, st.floats(0.01, 2), st.floats(1, 3))
def test_asking_for_more_evidence_never_admits_more(value: Floats, stddev: Floats, z: float, factor: float):
    strict = Guard(z=z * factor).admits(value, stddev, 0)
    assert not (strict & ~Guard(z=z).admits(value, stddev, 0)).any()


@pytest.mark.parametrize("z", [0.0, 1.0])
def test_no_queries(z: float):
    assert Guard(z=z).admits(np.zeros((0, 3)), np.zeros((0, 3)), 0).shape == (0, 3)
