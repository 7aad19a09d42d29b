"""The sentences under a table: what its numbers show and what they do not, made from the numbers.

Nothing here is written by hand for one result; with other numbers the sentences are other ones.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qdeq.runs.statistics import Comparison, signed
from qdeq.studies.results import Results
from qdeq.studies.study import Row

if TYPE_CHECKING:
    from qdeq.studies.paper import PaperTable

#: What an equilibrium has to beat: name of the row, and what a sentence calls it.
OPPONENTS = (
    ("direct-1", "DIRECT 1"),
    ("direct-5", "DIRECT 5"),
    ("direct-10", "DIRECT 10"),
    ("logistic", "logistic regression"),
)

_EQUILIBRIA = (("implicit", "IMPLICIT"), ("warmup", "IMPLICIT+WARMUP"))


def claims(results: Results) -> list[str]:
    """Sentences on whether equilibrium beats depth and linear models, encoding by encoding."""
    groups = dict.fromkeys(row.group for row in results.rows if row.kind == "circuit")
    return [sentence for encoding in groups for sentence in _comparisons(results, encoding)]


def notes(table: "PaperTable") -> list[str]:
    """What a reader must know to read the numbers right."""
    found = []
    if table.epochs != 100:
        found.append(
            f"Trained for {table.epochs} epochs; the paper's protocol has 100, so these rows "
            "are not the paper's table."
        )
    n_seeds = len(table.seeds)
    found += [
        f"Mean ± sample standard deviation over {n_seeds} seed{'s' * (n_seeds != 1)}. A "
        "difference is the row's test accuracy minus IMPLICIT's at the same seed (classical rows: "
        "IMPLICIT of the first encoding); its 95 % interval is Student's for paired seeds. It "
        "covers initial weights and batch order, on one split and one test set, and is not "
        "corrected for the number of comparisons.",
        "Every row keeps the model of its lowest validation loss; the test split is evaluated "
        "once, for that model.",
        "Residuals are per-sample relative norms |f(m) − m| / |f(m)| on the test split. DIRECT "
        "does not try to make them small; it has converged where they happen to meet the "
        "tolerance.",
        "Executions per training step and per inference count evaluations of the model function "
        "in the forward pass, one circuit setting each, for a whole batch in training and for one "
        "sample in inference. The executions for a step's gradient, in a column of their own, are "
        "what parameter shifts would need on a device, without the exact gradient of the Jacobian "
        "penalty. Depth and two-qubit gates are those of the circuit that one execution runs, "
        "without the preparation of the input state.",
        "Run time is that of all seeds together, training and validation; compile time is short "
        "where an earlier run left its compiled program in the cache. Peak memory is that of the "
        "process that trains all seeds at once, libraries included.",
    ]
    return found


def _comparisons(results: Results, encoding: str) -> list[str]:
    pairs = [(ours, theirs) for ours in _EQUILIBRIA for theirs in OPPONENTS]
    pairs.append((_EQUILIBRIA[1], _EQUILIBRIA[0]))
    sentences = []
    for (name, label), (opponent, called) in pairs:
        group = "classical" if opponent == "logistic" else encoding
        found = results.compare(f"{encoding}-{name}", f"{group}-{opponent}")
        if found is not None:
            sentences.append(f"{encoding}: {verdict(label, called, found)}")
    return sentences


def sorted_by(results: Results, reference: str, rows: Iterable[Row], called: str) -> str:
    """Which rows are above the reference, which below it, and which are not shown to differ.

    Parameters
    ----------
    results
        Of the study.
    reference
        Key of a row.
    rows
        To compare with it; itself is left out, and so are rows without numbers.
    called
        What the sentence calls the reference.

    Returns
    -------
    str
        Labels in sentences; empty where nothing can be compared.
    """
    signs: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for row in rows:
        compared = results.compare(row.key, reference) if row.key != reference else None
        if compared is not None:
            signs[compared.sign].append(row.label)
    words = ((1, f"above {called}"), (-1, "below it"), (0, "not shown to differ"))
    return "".join(f"{'; '.join(signs[sign])} {word}. " for sign, word in words if signs[sign])[:-1]


def verdict(label: str, opponent: str, found: Comparison) -> str:
    """One sentence on whether `label` beats `opponent`.

    Examples
    --------
    >>> sentence = verdict("IMPLICIT", "DIRECT 1", Comparison(-0.018, -0.024, -0.012, 10))
    >>> sentence.partition(" (")[0]
    'IMPLICIT does not beat DIRECT 1, it is worse: −0.0180'
    """
    number = signed(found.difference)
    if math.isnan(found.low):
        return (
            f"whether {label} beats {opponent} cannot be said from {found.n} seed: {number}, "
            "without an interval."
        )
    interval = f"95 % interval {signed(found.low)} to {signed(found.high)}, {found.n} seeds"
    if found.sign > 0:
        return f"{label} beats {opponent}: {number} ({interval})."
    if found.sign < 0:
        return f"{label} does not beat {opponent}, it is worse: {number} ({interval})."
    return f"{label} is not shown to beat {opponent}, nor to be worse: {number} ({interval})."
