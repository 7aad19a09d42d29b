"""The pictures of a run and its report: one HTML page that holds everything it shows.

Both are made from the files of a finished run folder alone, so they can be made again at any time.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdeq.errors import UserError
from qdeq.runs import pages
from qdeq.runs.diagram import CircuitDiagram
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary
from qdeq.training.config import TrainConfig

_CAPTIONS = {
    "training": "Loss and accuracy per epoch. The kept model is the one with the lowest validation "
    "loss.",
    "seeds": "Loss and accuracy per epoch: mean over the seeds, and their range.",
    "residual": "Relative residual of the test samples against solver step, averaged over the "
    "samples that had not converged before.",
    "confusion": "Test samples by true and predicted class.",
    "circuit": "One application of the model function: encoding, circuit, measured observables.",
}


def write_report(run: str | Path) -> list[Path]:
    """Draw the pictures of a finished run and write its `report.html`.

    Parameters
    ----------
    run
        A run folder with a summary.

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
    config, summary = folder.read_config(), folder.read_summary()
    history = folder.read_metrics(epochs=summary.epochs)
    drawn = {"training": figures.training_curves(history)}
    if any(value is not None for value in summary.residual_trace):
        drawn["residual"] = figures.residual_trace(
            summary.residual_trace, tolerance=config.tolerance
        )
    drawn["confusion"] = figures.confusion(summary.confusion_matrix, summary.classes)
    drawn["circuit"] = CircuitDiagram.of_config(config).figure()
    pictures = {name: figures.png(figure) for name, figure in drawn.items()}
    paths = folder.write_figures(pictures)
    folder.write_report(report_page(config, summary, pictures, hardware_rows(config, history)))
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
    return page(
        f"{summary.dataset}, {summary.mode}, {summary.encoding} encoding",
        run=summary.run,
        score=f"{summary.test_accuracy:.4f}",
        results={"Results": pages.pairs({**summary_rows(summary), **(more or {})})},
        pictures=pictures,
        command=command_line(config),
        config=config,
        versions={**summary.versions, "device": summary.device},
    )


def page(
    title: str,
    *,
    run: str,
    score: str,
    results: Mapping[str, str],
    pictures: Mapping[str, bytes],
    command: str,
    config: TrainConfig,
    versions: Mapping[str, str],
) -> str:
    """Return a report as one HTML page.

    Parameters
    ----------
    title, run, score
        What was trained, its folder, and the test accuracy as text.
    results
        Heading to a table's HTML.
    pictures
        PNG content by name; names with a known caption get it.
    command, config, versions
        How to train it again.
    """
    drawn = {name: (png, name, _CAPTIONS.get(name, name)) for name, png in pictures.items()}
    values = {name: str(value) for name, value in dataclasses.asdict(config).items()}
    parts = [
        pages.paragraph(run, "run"),
        pages.paragraph(score, "score"),
        pages.paragraph("test accuracy", "run"),
    ]
    for name, part in results.items():
        parts += [pages.heading(name), part]
    parts += [
        pages.heading("Pictures"),
        pages.figures(drawn),
        pages.heading("How to reproduce"),
        pages.paragraph(
            "With the versions below, on the same kind of device, this command ends with the same "
            "model."
        ),
        pages.command(command),
        pages.columns({"Configuration": pages.pairs(values), "Versions": pages.pairs(versions)}),
    ]
    return pages.page(title, parts)


def summary_rows(summary: Summary) -> dict[str, str]:
    """Return what a person wants to see of a summary, label to formatted value."""
    rows = {
        "test accuracy": f"{summary.test_accuracy:.4f}",
        "validation accuracy": f"{summary.valid_accuracy:.4f}",
        "training accuracy": f"{summary.train_accuracy:.4f}",
        "kept epoch": f"{summary.best_epoch} of {summary.epochs}",
        "residual, mean": f"{summary.residual_mean:.2e}",
        "residual, max": f"{summary.residual_max:.2e}",
        "converged": f"{summary.converged_fraction:.2%} of test samples",
        "solver steps, mean": f"{summary.solver_steps_mean:.2f}",
        "circuit executions": f"{summary.circuit_executions:,} in training, forward passes",
        "parameters": f"{summary.n_parameters} angles, {summary.n_head_parameters} in the head",
        "training time": f"{summary.train_seconds:.2f} s",
        "compile time": f"{summary.compile_seconds:.2f} s",
        "peak memory": f"{summary.peak_memory_mb:.0f} MB",
    }
    if summary.stopped:
        rows["stopped"] = summary.stopped
    if summary.undefined_inputs:
        rows["undefined inputs"] = f"{summary.undefined_inputs} test samples with x + R m = 0"
    return rows


def hardware_rows(config: TrainConfig, history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what training would have executed on a device; nothing where that is not defined.

    The summary's executions are those of the forward passes: derivatives cost a simulation no
    further ones.
    """
    from qdeq.runs.cost import run_cost

    try:
        cost = run_cost(CircuitDiagram.of_config(config), config, history)
    except UserError:  # a solver and an adjoint that do not go together on a device
        return {}
    forward, gradients = cost.solves.executions, cost.gradients.executions
    text = f"{forward + gradients:,} executions (forward {forward:,}, gradients {gradients:,})"
    if cost.penalty.executions:
        text += ", without the Jacobian penalty's"
    return {"on a device, parameter-shift": text}


def command_line(config: TrainConfig) -> str:
    """Return the command that trains a configuration: every option that is not a default.

    >>> command_line(TrainConfig(epochs=5, data_dir="my data"))
    "qdeq train --data-dir 'my data' --epochs 5"
    """
    words = ["qdeq", "train"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(words)
