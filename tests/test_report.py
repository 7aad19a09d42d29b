"""The report is one page that needs nothing else, and its pictures show what they are given."""

import base64
import hashlib
import html.parser
import json
import math
import re
import shlex
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from summaries import summary

from qdeq.cli.arguments import parse
from qdeq.cli.train import TrainCommand, config_of
from qdeq.data import Dataset, Split
from qdeq.equilibrium import Picard
from qdeq.errors import UserError
from qdeq.runs import figures, report_data
from qdeq.runs.circuit import circuit_of
from qdeq.runs.report import report_page, write_report
from qdeq.runs.report_data import Path, ReportData, Sample, Search, of_run
from qdeq.runs.reproduction import command_line, python_call
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary, versions
from qdeq.runs.summary_rows import summary_rows
from qdeq.training.config import PRESETS, TrainConfig


def history(*, warmup=1, epochs=3):
    return [
        {
            "epoch": epoch,
            "phase": "direct" if epoch <= warmup else "implicit",
            "train_loss": 1 / epoch,
            "valid_loss": None if epoch == 1 else 1.1 / epoch,
            "train_accuracy": 0.5,
            "valid_accuracy": 0.4,
            "best": epoch == 2,
        }
        for epoch in range(1, epochs + 1)
    ]


class Page(html.parser.HTMLParser):
    """Collects tags, addresses and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_no_other_file():
    pictures = {"training": b"png", "circuit": b"png"}
    page = Page(report_page(TrainConfig(), summary(), pictures))
    assert page.open == []  # every tag is closed
    assert page.tags.count("img") == 2
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    without = Page(report_page(TrainConfig(dropout=0.0), summary(), pictures))
    assert "Dropout acts" in page.text and "Dropout acts" not in without.text


def test_the_page_shows_results_configuration_versions_and_the_command():
    config = TrainConfig(seed=5)
    page = Page(report_page(config, summary(), {}))
    for words in ("0.9375", "123,456", "learning_rate", "qdeq train --seed 5", versions()["jax"]):
        assert words in page.text


def test_the_page_escapes_what_a_user_can_name():
    config = TrainConfig(data_dir="<script>alert(1)</script>&")
    page = Page(report_page(config, summary(run="a<script>"), {"<i>": b""}))
    assert "script" not in page.tags and "i" not in page.tags
    assert "<script>alert(1)</script>&" in page.text


@pytest.mark.parametrize(
    "config",
    [*PRESETS.values(), TrainConfig(data="mnist-4", data_dir="my data", n_qubits=5, seed=3)],
)
def test_the_command_in_the_report_trains_the_same_configuration(config):
    words = shlex.split(command_line(config))
    assert words[:2] == ["qdeq", "train"]
    command, _ = parse(TrainCommand, words[2:], prog="qdeq train")
    assert config_of(command) == config


def test_a_run_of_objects_shows_the_call_in_python_that_trains_it():
    config = TrainConfig(data="own", ansatz="own", epochs=7, seed=3)
    names = SimpleNamespace(TrainConfig=TrainConfig, train=lambda config, **given: (config, given))
    found, given = eval(python_call(config, [3, 4]), {"qdeq": names})
    assert found.replace(data="own", ansatz="own", seed=3) == config
    assert given == {"seeds": [3, 4], "dataset": ..., "model": ...}
    assert "solver=..." in python_call(TrainConfig(solver=Picard()))
    page = Page(report_page(config, summary(), {}))
    assert "qdeq.train(qdeq.TrainConfig(epochs=7, seed=3)" in page.text
    assert "qdeq train" not in page.text and "own model" in page.text


def searched(**changes):
    """What a report shows of two test samples, one of which has been searched for."""
    paths = {
        "picard": Path([[0.0, 0.0], [0.5, -0.5]], [1.0, 2e-6], True),
        "broyden": Path([[0.0, 0.0]], [1.0], False),
    }
    samples = [
        Sample(4, 0, 0, image=[0, 80, 160, 255], probabilities=[0.75, 0.25]),
        Sample(7, 0, 1, image=[0, 0, 0, 0], probabilities=[0.25, 0.75]),
    ]
    values = {
        "finished": "2026-01-02 03:04:05 UTC",
        "hardware": "a <fast> one",
        "samples": samples,
        "tolerance": 1e-5,
        "observables": ["Z0", "</script><b>"],
        "searches": [Search(7, [0.5, -0.5], True, 0.25, paths)],
    }
    return ReportData(**(values | changes))


def test_the_page_shows_when_and_where_it_ran_and_the_samples_behind_each_cell():
    text = report_page(TrainConfig(), summary(), {}, data=searched())
    page = Page(text)
    assert page.open == []
    for words in ("2026-01-02 03:04:05 UTC", "a <fast> one", "True 0, predicted <b>", "sample 7"):
        assert words in page.text
    cells = [address for address in page.addresses if address.startswith("#cell")]
    assert cells == ["#cell-0-0", "#cell-0-1"]  # links to what has samples, and not to the others
    assert all(f'id="{cell[1:]}"' in text for cell in cells)
    assert page.tags.count("meter") == 4


def test_the_search_can_be_read_without_scripts():
    page = Page(report_page(TrainConfig(), summary(), {}, data=searched()))
    assert "Picard, steps" in page.text and "0.250" in page.text
    assert "1 (not converged)" in page.text and "noscript" in page.tags
    without = Page(report_page(TrainConfig(), summary(), {}, data=searched(searches=[])))
    assert "qdeq report 'runs/<a>' adds" in without.text and "script" not in without.tags
    direct = Page(report_page(TrainConfig(mode="direct"), summary(mode="direct"), {}))
    assert "search for the equilibrium" not in direct.text


def test_the_policy_of_a_page_allows_its_own_style_and_script_alone():
    text = report_page(TrainConfig(), summary(), {}, data=searched())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        content = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert " style=" not in text and " onclick=" not in text  # which the policy would refuse


@given(
    name=st.text(min_size=1, max_size=12) | st.sampled_from(["</script>", "<!--<script>", "&lt;"])
)
@settings(max_examples=12)
def test_names_of_classes_observables_and_runs_cannot_leave_their_place(name):
    given_names = summary(classes=[name, "b"], run=name, dataset=name)
    text = report_page(TrainConfig(), given_names, {}, data=searched(observables=[name, "Z"]))
    page = Page(text)
    assert page.open == [] and not {"b", "i", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 2 and page.tags.count("section") == 4
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(inside[1])["observables"] == [name, "Z"]


def test_the_command_of_a_run_that_may_have_been_extended_along_a_cosine_promises_no_more():
    for schedule, promised in (("constant", True), ("cosine", False)):
        page = Page(report_page(TrainConfig(schedule=schedule), summary(), {}))
        assert "this command ends with the same model." in page.text
        assert ("A run that was extended" not in page.text) == promised


def test_a_picture_of_one_seed_of_many_says_which():
    of_numbers = {"task": "regression", "targets": ["y"], "classes": [], "confusion_matrix": []}
    scores = dict.fromkeys(("train_r2", "valid_r2", "test_r2", "test_rmse", "test_mae"), 0.5)
    one, other = (summary(seed=seed, **of_numbers, **scores) for seed in (3, 4))
    many = Summary.over([one, other], run="runs/two")
    for run, of_seed in ((one, ""), (many, " of seed 3")):
        page = Page(report_page(TrainConfig(), run, {"predictions": b""}))
        assert f"predicted against true{of_seed}, and what is left" in page.text


def test_what_a_report_shows_survives_its_file(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_report_data(ReportData) == ReportData()  # of an earlier version: no file
    data = searched(searches=[Search(7, [math.nan, 1.0], False, None, {})])
    folder.write_report_data(data)
    again = folder.read_report_data(ReportData)
    assert again.searches[0].equilibrium == [None, 1.0] and again.samples == data.samples
    folder.report_data_path.write_text('{"samples": [{"index": "a"}]}')
    with pytest.raises(UserError, match="damaged"):
        folder.read_report_data(ReportData)


def test_the_report_says_what_converged_means_with_the_same_words_for_one_seed_and_many():
    residual_above = summary(residual_max=4e-5, converged_fraction=1.0)
    one = summary_rows(residual_above, TrainConfig())
    assert one["converged means"].startswith("|f(m) − m| <= 1e-05 + 1e-05 |f(m)|")
    many = Summary.over([residual_above, residual_above], run="runs/two")
    assert set(summary_rows(many, TrainConfig())) == {*one, "seeds"}
    picard = TrainConfig(solver=Picard(rtol=1e-3, atol=1e-4))
    assert summary_rows(summary(), picard)["converged means"].startswith(
        "|f(m) − m| <= 0.0001 + 0.001 |f(m)|"
    )
    assert "converged means" not in summary_rows(summary(mode="direct"), TrainConfig())


def test_the_training_loss_is_drawn_without_the_penalty_that_is_part_of_it():
    lines = [line | {"train_penalty": 0.25} for line in history()]
    loss = figures.training_curves(lines).axes[0]
    drawn = {str(line.get_label()): line.get_ydata() for line in loss.lines}
    np.testing.assert_allclose(drawn["training"], [0.75, 0.25, 1 / 3 - 0.25])
    np.testing.assert_allclose(drawn["penalty"], 0.25)
    assert not figures.has_penalty([history()])  # a run of an earlier version
    assert not figures.has_penalty([[line | {"train_penalty": 0.0} for line in history()]])


def test_of_every_cell_the_first_samples_are_kept_and_of_a_regression_the_worst():
    x = np.zeros((60, 4), np.float32)
    split = Split(x, np.arange(60, dtype=np.int32) % 2)
    data = Dataset("own", split, split, split, classes=(0, 1), image_shape=None)
    found = of_run(TrainConfig(data="own"), data, np.zeros(60, int))
    assert [s.index for s in found.samples if s.true == 1] == list(range(1, 32, 2))
    assert all(s.image is None for s in found.samples)  # own features are no pixels
    true, predicted = np.zeros((40, 1)), np.arange(40.0)[:, None]
    assert report_data._shown(true, predicted, is_classes=False)[:2] == [39, 38]


def test_undefined_inputs_are_reported_when_there_are_any():
    assert "undefined inputs" not in summary_rows(summary())
    assert summary_rows(summary(undefined_inputs=2))["undefined inputs"].startswith("2 ")


def test_samples_without_a_number_for_a_residual_are_reported_and_shown():
    assert "not finite" not in summary_rows(summary())
    assert summary_rows(summary(not_finite=3))["not finite"].startswith("3 test samples")
    (axes,) = figures.residual_trace([1.0, 1e-3], tolerance=1e-5, not_finite=3).axes
    assert "without 3" in axes.get_title("left")
    both = Summary.over([summary(not_finite=3), summary(not_finite=1)], run="runs/two")
    assert both.not_finite == 4


def test_a_summary_survives_json_with_numbers_that_are_not_finite():
    text = summary().to_json()
    assert "NaN" not in text
    again = Summary.from_json(text)
    assert math.isnan(again.residual_max)
    assert again.to_json() == text


def test_training_curves_shade_the_warm_up_and_mark_the_kept_epoch():
    figure = figures.training_curves(history())
    loss, accuracy = figure.axes
    assert [axes.get_title("left") for axes in (loss, accuracy)] == ["Loss", "Accuracy"]
    assert len(loss.patches) == 1
    assert any("kept: epoch 2" in str(line.get_label()) for line in loss.lines)
    assert not figures.training_curves(history(warmup=0)).axes[0].patches
    assert not figures.training_curves(history(warmup=3)).axes[0].patches  # a direct run


def test_the_residual_picture_leaves_out_steps_that_no_sample_took():
    (axes,) = figures.residual_trace([1.0, 1e-3, None], tolerance=1e-5).axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
    assert axes.get_yscale() == "log"


def test_the_confusion_picture_writes_counts_and_survives_an_absent_class():
    (axes,) = figures.confusion([[5, 1], [0, 0]], ["cat", "dog"]).axes
    assert [text.get_text() for text in axes.texts] == ["5", "1"]


def test_pictures_are_png_files_and_equal_figures_are_equal_files():
    first, second = (figures.png(figures.confusion([[1]], [0])) for _ in range(2))
    assert first.startswith(b"\x89PNG") and first == second


def test_drawing_leaves_matplotlibs_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.png(figures.training_curves(history()))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_the_circuit_of_a_configuration_has_its_encoding_and_its_circuit(encoding):
    measured = circuit_of(TrainConfig(encoding=encoding, trainable="published"))
    assert measured.circuit.n_parameters == 39 and sum(measured.circuit.trainable) == 35
    assert measured.draw() and measured.draw_mpl().axes


def test_long_names_of_classes_leave_room_for_the_picture():
    (axes,) = figures.confusion([[5, 1], [0, 3]], ["x" * 200, "dog"]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x" * 19 + "…", "dog"]


@pytest.mark.parametrize("name", ["<$50% $_{", "US$ 5_ to US$ 10", "$^$", "cost_$_per_$_", r"\$$"])
def test_pictures_show_what_a_user_named_and_no_formula(name):
    for figure in (
        figures.confusion([[5, 1], [0, 3]], [name, "other"]),
        figures.predicted_against_true(np.eye(3)[:, :1], np.eye(3)[:, 1:2], [name]),
    ):
        assert figures.png(figure).startswith(b"\x89PNG")
        shown = [*figure.axes[0].get_xticklabels(), figure.axes[0].title]
        shown += [figure.axes[0]._left_title]
        # What is drawn, by Matplotlib's own rule for `$` and `\$`.
        drawn = [text._preprocess_math(text.get_text()) for text in shown]
        assert any(name in text and not is_formula for text, is_formula in drawn)


def test_names_in_a_script_that_the_font_lacks_are_drawn_without_a_warning():
    assert figures.png(figures.confusion([[5, 1], [0, 3]], ["東京", "서울"]))


def test_a_picture_that_fails_costs_a_warning_and_not_the_report(tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no\nroom")

    folder = RunFolder(tmp_path)
    folder.write_config(TrainConfig())
    folder.write_summary(summary())
    more = {"valid_loss": 0.5, "solver_steps_mean": 3.0, "circuit_executions": 10}
    folder.write_metrics([{**line, **more} for line in history()])
    monkeypatch.setattr(figures, "confusion", fails)
    with pytest.warns(UserWarning, match=r"the picture 'confusion' is left out .* \(no room\)"):
        paths = write_report(tmp_path)
    assert {"training.png", "residual.png", "circuit.png"} <= {path.name for path in paths}
    assert folder.report_path.is_file() and "confusion.png" not in {path.name for path in paths}
