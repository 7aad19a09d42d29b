"""Fits of the scikit-learn estimator one after another in a fresh process, and what the next costs.

What is measured is everything but the epochs: splits, initial values, looking programs up, and
compiling where that is needed.
"""

import json
import time
from typing import Any

import numpy as np

N_EPOCHS = 10
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
FOLDS = 3


def timed_fits() -> dict[str, Any]:
    """Seconds of a grid in a process that has computed nothing, and of fits after it.

    Returns
    -------
    dict
        `grid`: 4 learning rates x 3 folds x 10 epochs on the 178 rows of scikit-learn's wine.
        `compile`, `n_compiled`: XLA's part of it. `second`: what fits with another learning rate
        and another number of rows take beside their epochs, each; `n_compiled_later`: in all.
    """
    import jax
    from sklearn.datasets import load_wine
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    from qdeq import QDEQClassifier

    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    x, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = StandardScaler().fit_transform(x)[order], y[order]
    classifier = QDEQClassifier(preset="paper", epochs=N_EPOCHS, batch_size=32, random_state=0)
    began = time.perf_counter()
    GridSearchCV(classifier, {"learning_rate": list(LEARNING_RATES)}, cv=FOLDS).fit(x, y)
    found: dict[str, Any] = {"grid": time.perf_counter() - began}
    found |= {"compile": sum(compiled), "n_compiled": len(compiled)}
    compiled.clear()
    second = []
    for n_rows, learning_rate in ((150, 0.05), (120, 0.02), (90, 0.07)):
        began = time.perf_counter()
        classifier.set_params(learning_rate=learning_rate).fit(x[:n_rows], y[:n_rows])
        seconds = time.perf_counter() - began
        second.append(seconds - sum(metrics["seconds"] for metrics in classifier.history_))
    return {**found, "second": second, "n_compiled_later": len(compiled)}


if __name__ == "__main__":
    print(json.dumps(timed_fits()))
