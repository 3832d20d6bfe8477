from __future__ import annotations

import sys

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.report_pictures import CURVES_MAX, PICTURED, write_pictures
from tests.evaluation.made import evaluation, one_set

pytest.importorskip("matplotlib")


def test_each_set_gets_its_pictures_and_each_shows_something(tmp_path):
    from matplotlib.image import imread

    alpha, beta = write_pictures(evaluation(), tmp_path)
    written = (*alpha, *beta)
    assert all(path.stem.startswith("alpha-") for path in alpha)
    names = {"plane", "gap", "calibration", "protocol_probes"}
    assert {path.stem for path in written} == {f"{own}-{name}" for own in ("alpha", "beta") for name in names}
    assert len(names) == len(PICTURED)
    for path in written:
        pixels = imread(path)[:, :, :3]
        assert pixels.shape[1] == 1200
        assert path.stat().st_size < 80_000
        colours = np.unique((10 * pixels).round() @ (1, 100, 10_000))  # rows of three would be sorted in seconds
        assert len(colours) > 10, "more than axes and their titles"


def test_names_that_are_markup_elsewhere_are_drawn_as_they_are(tmp_path):
    own = one_set("$x^{", endpoints=("$\\frac{", "a_b$", "<b>"), policies=("$p$", "\\alpha$"))
    [written] = write_pictures(evaluation(own), tmp_path)
    assert len(written) == len(PICTURED)


def test_sets_of_like_names_keep_their_own_pictures(tmp_path):
    first, second = write_pictures(evaluation(one_set("a/b"), one_set("a?b")), tmp_path)
    written = (*first, *second)
    assert len(set(written)) == 2 * len(PICTURED)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}


def test_of_many_policies_the_best_have_curves_and_all_have_their_gap(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = {}
    keep = Figure.savefig

    def savefig(figure, *where, **how):
        [axes] = figure.axes
        shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        drawn[axes.get_title()] = shown or [label.get_text() for label in axes.get_yticklabels()]
        return keep(figure, *where, **how)

    monkeypatch.setattr(Figure, "savefig", savefig)
    names = [f"policy-{i}" for i in range(20)]
    write_pictures(evaluation(one_set("alpha", policies=names[::-1])), tmp_path)
    best = names[::-1][:CURVES_MAX]  # the made sets have the best first
    assert [name for name in drawn["alpha: cost and quality"] if name in names] == best
    assert [name for name in drawn["alpha: one endpoint arrives"] if name in names] == best
    assert sorted(drawn["alpha: gap closed"]) == sorted(names)


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="matplotlib") as error:
        write_pictures(evaluation(), tmp_path / "none")
    assert "evaluation" in (error.value.hint or "")
    assert not (tmp_path / "none").exists()
