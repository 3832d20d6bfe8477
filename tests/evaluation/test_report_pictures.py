from __future__ import annotations

import sys

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.report_pictures import PICTURED, write_pictures
from tests.evaluation.made import evaluation, one_set

pytest.importorskip("matplotlib")


def test_each_set_gets_its_pictures_and_each_shows_something(tmp_path):
    from matplotlib.image import imread

    written = write_pictures(evaluation(), tmp_path)
    names = {"plane", "gap", "calibration", "protocol_probes"}
    assert {path.stem for path in written} == {f"{own}-{name}" for own in ("alpha", "beta") for name in names}
    assert len(names) == len(PICTURED)
    for path in written:
        pixels = imread(path)[:, :, :3]
        assert pixels.shape[1] == 1200
        colours = np.unique(pixels.reshape(-1, 3).round(1), axis=0)
        assert len(colours) > 10, "more than axes and their titles"


def test_names_that_are_markup_elsewhere_are_drawn_as_they_are(tmp_path):
    own = one_set("$x^{", endpoints=("$\\frac{", "a_b$", "<b>"), policies=("$p$", "\\alpha$"))
    assert len(write_pictures(evaluation(own), tmp_path)) == len(PICTURED)


def test_sets_of_like_names_keep_their_own_pictures(tmp_path):
    written = write_pictures(evaluation(one_set("a/b"), one_set("a?b")), tmp_path)
    assert len(set(written)) == 2 * len(PICTURED)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="matplotlib") as error:
        write_pictures(evaluation(), tmp_path / "none")
    assert "evaluation" in (error.value.hint or "")
    assert not (tmp_path / "none").exists()
