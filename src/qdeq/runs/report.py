"""The pictures of a run and its report: one HTML page that holds everything it shows.

Both are made from the files of a finished run folder alone, so they can be made again at any time.
"""

import contextlib
import dataclasses
import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from qdeq.errors import UserError
from qdeq.names import IN_WORDS, OWN_DATA, OWN_MODEL
from qdeq.runs import pages
from qdeq.runs.circuit import circuit_of
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary
from qdeq.training.checked import is_own
from qdeq.training.config import TrainConfig

_CAPTIONS = {
    "training": "Loss and score per epoch. The kept model is the one with the lowest validation "
    "loss.",
    "seeds": "Loss and score per epoch: mean over the seeds, and their range.",
    "residual": "Relative residual of the test samples against solver step, averaged over the "
    "samples that had not converged before.",
    "predictions": "Targets of the test samples in their own units: predicted against true, and "
    "what is left.",
    "confusion": "Test samples by true and predicted class.",
    "circuit": "One application of the model function: encoding, circuit, measured observables.",
}


def write_report(run: str | Path, *, config: TrainConfig | None = None) -> list[Path]:
    """Draw the pictures of a finished run and write its `report.html`.

    Parameters
    ----------
    run
        A run folder with a summary, of one seed or many.
    config
        A configuration with the same objects, of a run whose configuration held any.

    Returns
    -------
    list of Path
        The pictures, then the report.

    Raises
    ------
    UserError
        When the run is not finished or a file is damaged.
    """
    from qdeq.runs import figures  # Matplotlib takes half a second that `draw` does not need

    folder = RunFolder.open(run)
    kept, summary = folder.read_config(), folder.read_summary()
    config = kept if config is None else kept.given_again(config)
    histories = folder.read_histories()
    if folder.has_many_seeds:
        drawn = {"seeds": figures.training_bands(histories)}
    else:
        drawn = {"training": figures.training_curves(histories[0])}
    if any(value is not None for value in summary.residual_trace):
        drawn["residual"] = figures.residual_trace(
            summary.residual_trace, tolerance=config.tolerance, not_finite=summary.not_finite
        )
    if not summary.targets:
        drawn["confusion"] = figures.confusion(summary.confusion_matrix, summary.classes)
    else:
        found = folder.read_predictions()
        drawn["predictions"] = figures.predicted_against_true(*found, summary.targets)
    with contextlib.suppress(UserError):  # of parts of one's own that are not given
        drawn["circuit"] = circuit_of(config, summary).draw_mpl()
    pictures = {name: figures.png(figure) for name, figure in drawn.items()}
    paths = folder.write_figures(pictures)
    lines = [line for history in histories for line in history]
    more = hardware_rows(config, summary, lines)
    folder.write_report(report_page(config, summary, pictures, more))
    return [*paths, folder.report_path]


def report_page(
    config: TrainConfig,
    summary: Summary,
    pictures: Mapping[str, bytes],
    more: Mapping[str, str] | None = None,
) -> str:
    """Return the report as one HTML page with inline style and pictures, and without scripts.

    Parameters
    ----------
    config, summary
        Of the run.
    pictures
        PNG content by name; names with a known caption get it.
    more
        Results to show after the summary's, label to text.
    """
    model = (
        "own model" if config.ansatz == OWN_MODEL else f"{shorten(summary.encoding, 60)} encoding"
    )
    title = f"{summary.dataset}, {summary.mode}, {model}"
    rows = pages.pairs({**summary_rows(summary), **(more or {})})
    if summary.seeds is None:
        results = {"Results": rows}
    else:
        title += f", {len(summary.seeds)} seed{'s' * (len(summary.seeds) != 1)}"
        results = {
            "Results, mean ± standard deviation over seeds": rows,
            "Seed by seed": _by_seed(summary),
        }
    versions = {**summary.versions, "device": summary.device}
    drawn = {name: (png, name, _CAPTIONS.get(name, name)) for name, png in pictures.items()}
    values = {name: str(value) for name, value in config.plain().items()}
    parts = [
        pages.paragraph(summary.run, "run"),
        pages.paragraph(f"{summary.spread(f'test_{summary.score}'):.4f}", "score"),
        pages.paragraph(f"test {IN_WORDS[summary.score]}", "run"),
    ]
    for name, part in results.items():
        parts += [pages.heading(name), part]
    parts += [
        pages.heading("Pictures"),
        pages.figures(drawn),
        pages.heading("How to reproduce"),
        *_how_to_reproduce(config, summary.seeds),
        pages.columns({"Configuration": pages.pairs(values), "Versions": pages.pairs(versions)}),
    ]
    return pages.page(title, parts)


def summary_rows(summary: Summary) -> dict[str, str]:
    """Return what a person wants to see of a summary, label to formatted value."""
    spread = summary.spread
    score = IN_WORDS[summary.score]
    many = {} if summary.seeds is None else {"seeds": str(len(summary.seeds))}
    rows = many | {
        f"test {score}": f"{spread(f'test_{summary.score}'):.4f}",
        f"validation {score}": f"{spread(f'valid_{summary.score}'):.4f}",
        f"training {score}": f"{spread(f'train_{summary.score}'):.4f}",
        **_errors(summary),
        "kept epoch": f"{spread('best_epoch'):g} of {summary.epochs}",
        "residual, mean": f"{spread('residual_mean'):.2e}",
        "residual, max": f"{summary.residual_max:.2e}",
        "converged": f"{spread('converged_fraction'):.2%} of test samples",
        "solver steps, mean": f"{spread('solver_steps_mean'):.2f}",
        "circuit executions": f"{summary.circuit_executions:,} in training, forward passes",
        "parameters": f"{summary.n_parameters} in the model, "
        f"{summary.n_head_parameters} in the head",
        "training time": f"{summary.train_seconds:.2f} s" + " for all seeds" * bool(many),
        "compile time": f"{summary.compile_seconds:.2f} s",
        "peak memory": f"{summary.peak_memory_mb:.0f} MB",
    }
    if summary.stopped:
        rows["stopped"] = summary.stopped
    if summary.undefined_inputs:
        rows["undefined inputs"] = f"{summary.undefined_inputs} test samples with x + R m = 0"
    if summary.not_finite:
        rows["not finite"] = (
            f"{summary.not_finite} test samples met a residual that is no number; their last steps "
            "are not in the picture of residuals"
        )
    return rows


def _errors(summary: Summary) -> dict[str, str]:
    """Test errors of a regression, in the targets' own units."""
    if not summary.targets:
        return {}
    if len(summary.targets) > 1:  # whose units differ
        return {"targets": ", ".join(summary.targets)}
    return {
        "target": summary.targets[0],
        "test RMSE": f"{summary.spread('test_rmse'):.4g}",
        "test MAE": f"{summary.spread('test_mae'):.4g}",
    }


def _by_seed(summary: Summary) -> str:
    scores = (f"test_{summary.score}", f"valid_{summary.score}")
    names = (*scores, "residual_max", "converged_fraction", "best_epoch")
    words = [name.replace("_", " ").replace(" r2", f" {IN_WORDS['r2']}") for name in names]
    head = "".join(f"<th>{html.escape(word)}</th>" for word in ("seed", *words))
    lines = [f"<tr>{head}</tr>"]
    for position, seed in enumerate(summary.seeds or []):
        cells = "".join(f"<td>{summary.by_seed[name][position]:.4g}</td>" for name in names)
        lines.append(f'<tr><td><a href="seed-{seed}/">{seed}</a></td>{cells}</tr>')
    return f'<table class="grid">{"".join(lines)}</table>'


def hardware_rows(
    config: TrainConfig, summary: Summary, history: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return what training would have executed on a device; nothing where that is not defined.

    The summary's executions are those of the forward passes: derivatives cost a simulation no
    further ones.
    """
    from qdeq.runs.cost import run_cost

    try:
        cost = run_cost(circuit_of(config, summary), config, history)
    except UserError:  # a solver and an adjoint that do not go together on a device
        return {}
    forward, gradients = cost.solves.executions, cost.gradients.executions
    text = f"{forward + gradients:,} executions (forward {forward:,}, gradients {gradients:,})"
    if cost.penalty.executions:
        text += ", without the Jacobian penalty's"
    return {"on a device, parameter-shift": text}


def _how_to_reproduce(config: TrainConfig, seeds: Sequence[int] | None) -> list[str]:
    again = python_call(config, seeds)
    same = "With the versions below, on the same kind of device, this"
    if again is None:
        command = command_line(config)
        if seeds is not None:
            command = f"{command_line(config.replace(seed=0))} --seeds {','.join(map(str, seeds))}"
        return [
            pages.paragraph(f"{same} command ends with the same model."),
            pages.command(command),
        ]
    sentence = f"{same} call ends with the same model, given again what is left open in it."
    return [pages.paragraph(sentence), pages.command(again)]


def python_call(config: TrainConfig, seeds: Sequence[int] | None = None) -> str | None:
    """Return the call that trains a configuration for which the command line has no words.

    None where it has: nothing was given as an object in Python.

    >>> python_call(TrainConfig(epochs=5, data="own"))
    'qdeq.train(qdeq.TrainConfig(epochs=5), dataset=...)'
    >>> python_call(TrainConfig(epochs=5)) is None
    True
    """
    values = config.plain()
    parts = {"dataset": config.data == OWN_DATA, "model": config.ansatz == OWN_MODEL}
    left_open = [f"{name}=..." for name, is_given in parts.items() if is_given]
    options = []
    for field in dataclasses.fields(config):
        value = values[field.name]
        if is_own(value):
            options.append(f"{field.name}=...")
        elif value not in (field.default, OWN_DATA) and (field.name != "seed" or seeds is None):
            options.append(f"{field.name}={value!r}")
    if not left_open and "=..." not in "".join(options):
        return None
    arguments = [f"qdeq.TrainConfig({', '.join(options)})"]
    arguments += [] if seeds is None else [f"seeds={list(seeds)}"]
    return f"qdeq.train({', '.join([*arguments, *left_open])})"


def command_line(config: TrainConfig) -> str:
    """Return the command that trains a configuration: every option that is not a default.

    >>> command_line(TrainConfig(epochs=5, data_dir="my data"))
    "qdeq train --data-dir 'my data' --epochs 5"
    """
    words, values = ["qdeq", "train"], config.plain()
    if config.is_file:  # for which other values than the paper's are the defaults
        words += ["--preset", "paper"]
    for field in dataclasses.fields(config):
        value = values[field.name]
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(words)
