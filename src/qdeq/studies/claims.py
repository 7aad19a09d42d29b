"""The sentences under a table: what its numbers show and what they do not, made from the numbers.

Nothing here is written by hand for one result; with other numbers the sentences are other ones.
"""

import math

from qdeq.studies.protocol import table_rows
from qdeq.studies.statistics import Comparison
from qdeq.studies.table import Entry, Table

#: What an equilibrium has to beat: name of the row, and what a sentence calls it.
OPPONENTS = (
    ("direct-1", "DIRECT 1"),
    ("direct-5", "DIRECT 5"),
    ("direct-10", "DIRECT 10"),
    ("logistic", "logistic regression"),
)

_EQUILIBRIA = (("implicit", "IMPLICIT"), ("warmup", "IMPLICIT+WARMUP"))


def claims(table: Table) -> list[str]:
    """Sentences on whether equilibrium beats depth and linear models, encoding by encoding."""
    return [
        sentence
        for encoding in table.encodings
        for sentence in [*_comparisons(table, encoding), *_warmup(table, encoding)]
    ]


def notes(table: Table) -> list[str]:
    """What a reader must know to read the numbers right, diverged and failed rows first."""
    protocol = table.protocol
    found = [
        f"{_where(entry)}: {entry.result['status']}. {entry.result['reason']}."
        for entry in table.entries
        if entry.result["status"] != "done"
    ]
    found += [
        f"{_where(entry)}: {entry.result['note']}."
        for entry in table.entries
        if entry.result.get("note")
    ]
    shown = {entry.row.key for entry in table.entries}
    absent = [row for row in table_rows(protocol) if row.key not in shown]
    if absent:
        names = "; ".join(f"{row.group}, {row.label}" for row in absent)
        found.append(f"Rows of the whole table that have not been computed: {names}.")
    if protocol.epochs != 100:
        found.append(
            f"Trained for {protocol.epochs} epochs; the paper's protocol has 100, so these rows "
            "are not the paper's table."
        )
    n_seeds = len(protocol.seeds)
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
        "Executions count evaluations of the model function in the forward pass, one circuit "
        "setting each, for a whole batch in training and for one sample in inference; those of "
        "gradients are not counted. Depth and two-qubit gates are those of the circuit that one "
        "execution runs, without the preparation of the input state.",
        "Run time is that of all seeds together, training and validation; compile time is short "
        "where an earlier run left its compiled program in the cache. Peak memory is that of the "
        "process that trains all seeds at once, libraries included.",
    ]
    return found


def _comparisons(table: Table, encoding: str) -> list[str]:
    sentences = []
    for name, label in _EQUILIBRIA:
        for opponent, called in OPPONENTS:
            group = "classical" if opponent == "logistic" else encoding
            found = table.compare(f"{encoding}-{name}", f"{group}-{opponent}")
            if found is not None:
                sentences.append(f"{encoding}: {verdict(label, called, found)}")
    return sentences


def _warmup(table: Table, encoding: str) -> list[str]:
    found = table.compare(f"{encoding}-warmup", f"{encoding}-implicit")
    if found is None:
        return []
    return [f"{encoding}: {verdict('IMPLICIT+WARMUP', 'IMPLICIT', found)}"]


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


def signed(value: float) -> str:
    """A number with its sign and four decimals, with a true minus.

    >>> signed(-0.01234)
    '−0.0123'
    """
    return f"{value:+.4f}".replace("-", "−")


def _where(entry: Entry) -> str:
    return f"{entry.row.group}, {entry.row.label}"
