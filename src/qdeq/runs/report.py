"""The pictures of a run and its report: one HTML page that holds everything it shows.

Both are made from the files of a finished run folder alone, so they can be made again at any time.
"""

import base64
import dataclasses
import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from qdeq.errors import UserError
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
        results={"Results": table({**summary_rows(summary), **(more or {})})},
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
    figures = "\n".join(
        f'<figure class="{html.escape(name)}"><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{html.escape(_CAPTIONS.get(name, name))}</figcaption></figure>"
        for name, content in pictures.items()
    )
    return _PAGE.substitute(
        title=html.escape(title),
        run=html.escape(run),
        accuracy=html.escape(score),
        results="\n".join(f"<h2>{html.escape(k)}</h2>\n{v}" for k, v in results.items()),
        figures=figures,
        command=html.escape(command),
        config=table({k: str(v) for k, v in dataclasses.asdict(config).items()}),
        versions=table(versions),
    )


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


def table(rows: Mapping[str, str]) -> str:
    """Return labels and values as an HTML table."""
    cells = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return "<table>" + "".join(cells) + "</table>"


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qdeq: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; margin: 0; background: #f3f4f6; }
main { max-width: 62rem; margin: 2rem auto; padding: 2rem 2.5rem; background: #fff;
  border: 1px solid #e5e7eb; border-radius: 8px; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.run { color: #6b7280; margin: .2rem 0 0; overflow-wrap: anywhere; }
.score { font-size: 2.2rem; font-weight: 600; color: #0072b2; margin: 1rem 0 0; }
.score small { font-size: 1rem; font-weight: 400; color: #6b7280; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 400; color: #6b7280; padding: .15rem 2rem .15rem 0; }
td { padding: .15rem 0; overflow-wrap: anywhere; }
figure { margin: 0 0 1.5rem; }
figure img { max-width: 100%; height: auto; display: block; }
figure.training, figure.seeds, figure.circuit { flex: 1 0 100%; }
figure.residual { width: 26rem; max-width: 100%; }
figure.confusion { width: 20rem; max-width: 100%; }
figcaption { color: #6b7280; font-size: .85rem; margin-top: .3rem; }
.figures, .columns { display: flex; flex-wrap: wrap; gap: 1rem 3rem; }
pre { background: #f3f4f6; padding: .8rem 1rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="run">$run</p>
<p class="score">$accuracy <small>test accuracy</small></p>
$results
<h2>Pictures</h2>
<div class="figures">
$figures
</div>
<h2>How to reproduce</h2>
<p>With the versions below, on the same kind of device, this command ends with the same model.</p>
<pre>$command</pre>
<div class="columns">
<section><h2>Configuration</h2>$config</section>
<section><h2>Versions</h2>$versions</section>
</div>
</main>
</body>
</html>
""")
