"""The pictures of a run and its report: one HTML page that holds everything it shows.

Both are made from the files of a finished run folder alone, so they can be made again at any time.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from qdeq.errors import UserError
from qdeq.names import IN_WORDS, OWN_MODEL
from qdeq.runs import pages
from qdeq.runs.circuit import circuit_of
from qdeq.runs.report_data import ReportData
from qdeq.runs.report_samples import search_data, search_of_equilibria, tested_samples
from qdeq.runs.reproduction import command_line, python_call
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary
from qdeq.runs.summary_rows import seed_columns, summary_rows
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.runs.cost import RunCost

_CAPTIONS = {
    "training": "Loss and score per epoch. The kept model is the one with the lowest validation "
    "loss, marked by the dotted line.",
    "seeds": "Loss and score per epoch: mean over the seeds, and their range; a seed that ended "
    "early counts up to its end.",
    "residual": "Relative residual of the test samples against solver step, averaged over the "
    "samples that had not converged before. A straight line falls by the same factor every step.",
    "predictions": "Targets of the test samples in their own units: predicted against true"
    "{of_seed}, and what is left. A perfect model puts every point on the dashed lines.",
    "confusion": "Test samples by true and predicted class.",
    "circuit": "One application of the model function: encoding, circuit, measured observables.",
}
_PENALTY_APART = (
    " The training loss is drawn without the Jacobian penalty, which is added to it and keeps "
    "iteration contracting (dashed); so it can be compared with the validation loss, which has "
    "none."
)
_DROPOUT = " Dropout acts on training alone."


def write_report(run: str | Path, *, config: TrainConfig | None = None) -> list[Path]:
    """Draw the pictures of a finished run and write its `report.html`, from the folder alone.

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
    found = folder.read_predictions() if summary.targets else None
    drawn: dict[str, Callable[[], Figure]] = {}
    if folder.has_many_seeds:
        drawn["seeds"] = lambda: figures.training_bands(histories)
    else:
        drawn["training"] = lambda: figures.training_curves(histories[0])
    if any(value is not None for value in summary.residual_trace):
        drawn["residual"] = lambda: figures.residual_trace(
            summary.residual_trace, tolerance=config.tolerance, not_finite=summary.not_finite
        )
    if found is None:
        drawn["confusion"] = lambda: figures.confusion(summary.confusion_matrix, summary.classes)
    else:
        drawn["predictions"] = lambda: figures.predicted_against_true(*found, summary.targets)
    drawn["circuit"] = lambda: circuit_of(config, summary).draw_mpl()
    pictures = _pictures(drawn)
    paths = folder.write_figures(pictures)
    page = report_page(
        config,
        summary,
        pictures,
        lines=[line for history in histories for line in history],
        data=folder.seed_folders()[0].read_report_data(ReportData),
        penalty_apart=figures.has_penalty(histories),
    )
    folder.write_report(page)
    return [*paths, folder.report_path]


def _pictures(drawn: "Mapping[str, Callable[[], Figure]]") -> dict[str, bytes]:
    """The pictures that can be drawn: one that fails costs a warning, not the trained run."""
    from qdeq.runs.figures import png

    pictures = {}
    for name, draw in drawn.items():
        try:
            pictures[name] = png(draw())
        except UserError:  # a circuit of parts of one's own that are not given
            continue
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"the picture {name!r} is left out of the report, as drawing it failed ({reason})",
                stacklevel=3,
            )
    return pictures


def report_page(
    config: TrainConfig,
    summary: Summary,
    pictures: Mapping[str, bytes],
    *,
    lines: Sequence[Mapping[str, Any]] = (),
    data: ReportData | None = None,
    penalty_apart: bool = False,
) -> str:
    """Return the report as one HTML page, whose only script draws the search for an equilibrium.

    Parameters
    ----------
    config, summary
        Of the run.
    pictures
        PNG content by name; names with a known caption get it.
    lines
        The metrics of all epochs, of all seeds.
    data
        Of the run, of many seeds the first one's.
    penalty_apart
        Whether the pictures show the Jacobian penalty by itself.
    """
    data = ReportData() if data is None else data
    over_seeds = "" if summary.seeds is None else ", mean ± standard deviation over seeds"
    of_seed = "" if summary.seeds is None else f" of seed {summary.seeds[0]}"
    parts = [
        pages.paragraph(summary.run, "run"),
        pages.paragraph(f"{summary.spread(f'test_{summary.score}'):.4f}", "score"),
        pages.paragraph(f"test {IN_WORDS[summary.score]}", "run"),
        pages.paragraph(", ".join(filter(None, [data.finished, data.hardware])), "run"),
        pages.heading(f"Results{over_seeds}"),
        pages.pairs(summary_rows(summary, config)),
    ]
    if summary.seeds is not None:
        parts += [pages.heading("Seed by seed"), _by_seed(summary)]
    more = (_PENALTY_APART if penalty_apart else "") + (_DROPOUT if config.dropout else "")
    parts += [
        pages.heading("Training"),
        pages.figures(_captioned(pictures, ("training", "seeds"), more)),
        *tested_samples(
            summary,
            data,
            of_seed=of_seed,
            picture=pages.figures(_captioned(pictures, ("predictions",), of_seed=of_seed)),
        ),
        *search_of_equilibria(summary, data, of_seed=of_seed),
        pages.figures(_captioned(pictures, ("residual",))),
        pages.heading("Circuit executions"),
        *executions(config, summary, lines),
    ]
    rest = [name for name in pictures if name not in _PLACED]
    if rest:
        parts += [pages.heading("Circuit"), pages.figures(_captioned(pictures, rest))]
    parts += _how_to_reproduce(config, summary, data)
    title = _title(config, summary)
    if not data.searches:
        return pages.page(title, parts)
    return pages.page(
        title, parts, scripts=["view.js", "search.js"], data=search_data(summary, data)
    )


def _title(config: TrainConfig, summary: Summary) -> str:
    own = config.ansatz == OWN_MODEL
    model = "own model" if own else f"{shorten(summary.encoding, 60)} encoding"
    title = f"{summary.dataset}, {summary.mode}, {model}"
    if summary.seeds is None:
        return title
    return f"{title}, {len(summary.seeds)} seed{'s' * (len(summary.seeds) != 1)}"


_PLACED = ("training", "seeds", "predictions", "residual", "confusion")


def _captioned(
    pictures: Mapping[str, bytes],
    names: Sequence[str],
    more: str = "",
    of_seed: str = "",
) -> dict[str, tuple[bytes, str, str]]:
    return {
        name: (pictures[name], name, _CAPTIONS.get(name, name).format(of_seed=of_seed) + more)
        for name in names
        if name in pictures
    }


def _by_seed(summary: Summary) -> str:
    """The numbers of every seed, by the names that they have in the table of results."""
    names = seed_columns(summary.score)
    seeds = [str(seed) for seed in summary.seeds or []]
    body = [
        [seed, *(f"{summary.by_seed[name][position]:.4g}" for name in names)]
        for position, seed in enumerate(seeds)
    ]
    links = {seed: f"seed-{seed}/" for seed in seeds}
    return pages.grid(["seed", *names.values()], body, links=links)


def executions(
    config: TrainConfig, summary: Summary, history: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The ledger: what was counted, and what a device would have to execute for it."""
    rows = [["forward passes of training", "counted", f"{summary.circuit_executions:,}"]]
    cost = _device_cost(config, summary, history)
    if cost is not None:
        found = {"forward passes": cost.solves, "gradients, by parameter-shift": cost.gradients}
        rows += [
            [f"{name}, on a device", "predicted", f"{ledger.executions:,}"]
            for name, ledger in found.items()
        ]
        if cost.penalty.executions:
            label = "exact gradient of the Jacobian penalty, on a device"
            rows.append([label, "predicted", f"{cost.penalty.executions:,}"])
    shown = [
        pages.grid(["circuit executions", "how known", "number"], rows),
        pages.paragraph(
            "One execution is one circuit, prepared and measured in one setting for one sample; "
            "times shots on hardware. A simulation needs none for derivatives: it counts the "
            "evaluations of the model function.",
            "note",
        ),
    ]
    if cost is not None and cost.penalty.executions:
        text = "Training on a device does without the penalty's exact gradient."
        shown.append(pages.paragraph(text, "note"))
    return shown


def _device_cost(
    config: TrainConfig, summary: Summary, history: Sequence[Mapping[str, Any]]
) -> "RunCost | None":
    from qdeq.runs.cost import run_cost

    try:
        return run_cost(circuit_of(config, summary), config, history)
    except UserError:  # a solver and an adjoint that do not go together on a device
        return None


def _how_to_reproduce(config: TrainConfig, summary: Summary, data: ReportData) -> list[str]:
    """The command, the whole configuration, and what the run was made with."""
    same = "With the versions below, on the same kind of device, this"
    seeds, call = summary.seeds, python_call(config, summary.seeds)
    if call is not None:
        sentence = f"{same} call ends with the same model, given again what is left open in it."
    else:
        sentence = f"{same} command ends with the same model."
        call = command_line(config)
        if seeds is not None:
            call = f"{command_line(config.replace(seed=0))} --seeds {','.join(map(str, seeds))}"
    if config.schedule != "constant":
        sentence += " A run that was extended (--resume with more --epochs) took other steps."
    values = {name: str(value) for name, value in config.plain().items()}
    known = {"finished": data.finished, "hardware": data.hardware}
    surroundings = {name: text for name, text in known.items() if text}
    surroundings |= {"JAX device": summary.device, **summary.versions}
    return [
        pages.heading("How to reproduce"),
        pages.paragraph(sentence),
        pages.command(call),
        pages.columns(
            {"Configuration": pages.pairs(values), "Surroundings": pages.pairs(surroundings)}
        ),
    ]
