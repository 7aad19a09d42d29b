"""Trained models measured on noisy devices and with finite shots, point by point, and kept.

A point is one device and one row: a list of plain numbers per seed.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from qdeq._arrays import write_atomically
from qdeq._numbers import is_correct, nan_unless_finite
from qdeq.circuits import parse_noise
from qdeq.equilibrium import Direct, Equilibrium
from qdeq.models import Classifier, quantum_model
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import make_trainer
from qdeq.runs.summary import finite_or_none
from qdeq.studies.noise_protocol import NoiseProtocol
from qdeq.studies.protocol import Row
from qdeq.training.loop import Trainer
from qdeq.training.noisy import evaluate_with_shots

#: Raise when the meaning of a number changes, so that older points are computed again.
POINT_FORMAT = 1

Points = dict[str, list[dict[str, Any]]]


def noise_name(strength: float) -> str:
    """The name of a device with noise channels and exact expectation values."""
    return f"noise {strength:g}"


def shots_name(shots: int) -> str:
    """The name of a device with finite shots, and the noise that the row was trained under."""
    return f"shots {shots}"


class PointStore:
    """The points of one row, in a JSON file that is rewritten after each of them."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = json.loads(json.dumps({"format": POINT_FORMAT, **identity}))
        self.points: Points = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["identity"] == self._identity:
                self.points = content["points"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing there yet, or damaged: measure again

    def add(self, name: str, point: list[dict[str, Any]]) -> None:
        """Keep a point."""
        self.points[name] = json.loads(json.dumps(finite_or_none(point)))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"identity": self._identity, "points": self.points}
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())


def measure_row(
    protocol: NoiseProtocol,
    row: Row,
    runs: Path,
    store: PointStore,
    *,
    seeds: Sequence[int],
    on_point: Callable[[str], None],
) -> Points:
    """Measure the models of a row on every device of the protocol that `store` does not have yet.

    Parameters
    ----------
    protocol, row
        Which devices, which models.
    runs
        Folder with a run folder per seed.
    store
        Of this row.
    seeds
        Those whose training did not diverge.
    on_point
        Called with the name of a point before it is computed.
    """
    names = [noise_name(p) for p in protocol.strengths]
    names += [shots_name(shots) for shots in protocol.shots]
    missing = [name for name in names if name not in store.points]
    if not missing:
        return store.points
    trainer = make_trainer(row.config, devices=1)
    classifiers = load_seeds(trainer, runs, seeds)
    layer = trainer.recipe.layer(row.config.mode)
    for strength in protocol.strengths:
        if noise_name(strength) in missing:
            on_point(noise_name(strength))
            noise = protocol.noise(strength)
            found = _exact(classifiers, noise, layer, trainer, seeds)
            store.add(noise_name(strength), found)
    for shots in protocol.shots:
        if shots_name(shots) in missing:
            on_point(shots_name(shots))
            found = _sampled(classifiers, shots, layer, trainer, seeds, protocol.repeats)
            store.add(shots_name(shots), found)
    return store.points


def load_seeds(trainer: Trainer, runs: Path, seeds: Sequence[int]) -> list[Classifier]:
    """The best models of a row's seeds."""
    template = trainer.init().best_classifier
    return [RunFolder(runs / f"seed-{seed}").load_model(template) for seed in seeds]


def with_noise(classifier: Classifier, noise: str) -> Classifier:
    """The same classifier on another device."""
    model = quantum_model(classifier.model, "noise")
    method = "auto" if noise and model.method == "statevector" else model.method
    changed = dataclasses.replace(model, noise=parse_noise(noise) if noise else None, method=method)
    return eqx.tree_at(lambda c: c.model, classifier, changed)


def _exact(
    classifiers: Sequence[Classifier],
    noise: str,
    layer: Equilibrium | Direct,
    trainer: Trainer,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Exact expectation values on a noisy device: nothing is random."""
    noisy = _stack([with_noise(classifier, noise) for classifier in classifiers])
    plain = _stack([with_noise(classifier, "") for classifier in classifiers])
    # In two programs: the first depends on noise and circuit, the second, which takes as long to
    # compile, on the layer, and serves every strength.
    forms = _prepare(noisy)
    found = {
        name: np.asarray(value, float)
        for split in ("test", "valid")
        for name, value in _solve(
            plain, forms, layer, *_arrays(getattr(trainer.dataset, split)), split
        ).items()
    }
    return [
        {"seed": seed, **{name: float(value[i]) for name, value in found.items()}}
        for i, seed in enumerate(seeds)
    ]


@eqx.filter_jit
def _prepare(classifiers: Classifier) -> PyTree:
    return eqx.filter_vmap(lambda classifier: classifier.model.prepare())(classifiers)


@eqx.filter_jit
def _solve(
    classifiers: Classifier,
    forms: PyTree,
    layer: Equilibrium | Direct,
    x: Array,
    y: Array,
    split: str,
) -> dict[str, Array]:
    def seed(classifier: Classifier, form: Any) -> dict[str, Array]:
        def one(x: Array) -> tuple[Array, Any]:
            start = jnp.zeros(classifier.model.n_observables, x.dtype)
            solution = layer(form.bind(x), start)
            logits = classifier.read_out(solution.value)
            return nan_unless_finite(logits, solution.value), solution.stats

        logits, stats = jax.vmap(one)(x)
        accuracy = jnp.mean(is_correct(logits, y))
        if split != "test":
            return {f"{split}_accuracy": accuracy}
        return {
            "accuracy": accuracy,
            "residual": jnp.mean(stats.residual),
            "converged": jnp.mean(stats.converged),
            "executions": jnp.mean(stats.evaluations),
        }

    return eqx.filter_vmap(seed)(classifiers, forms)


def _sampled(
    classifiers: Sequence[Classifier],
    shots: int,
    layer: Equilibrium | Direct,
    trainer: Trainer,
    seeds: Sequence[int],
    repeats: int,
) -> list[dict[str, Any]]:
    """Finite shots on the device of the training; the mean over repeats of every seed."""
    test, n = trainer.dataset.test, len(trainer.dataset.test.y)
    point = []
    for seed, classifier in zip(seeds, classifiers, strict=True):
        results = [
            evaluate_with_shots(
                classifier,
                layer,
                test,
                shots=shots,
                key=jax.random.fold_in(jax.random.key(seed), repeat),
            )
            for repeat in range(repeats)
        ]
        point.append(
            {
                "seed": seed,
                "accuracy": float(np.mean([r.accuracy for r in results])),
                "residual": float(np.mean([r.residual_mean for r in results])),
                "measured_residual": float(np.mean([r.measured_residual_mean for r in results])),
                "converged": float(np.mean([r.converged_fraction for r in results])),
                "executions": float(np.mean([r.circuit_executions / n for r in results])),
                "shots_per_inference": float(np.mean([r.total_shots / n for r in results])),
            }
        )
    return point


def _arrays(split: Any) -> tuple[Array, Array]:
    return jnp.asarray(split.x), jnp.asarray(split.y)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    arrays = [eqx.filter(tree, eqx.is_array) for tree in trees]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
    return eqx.combine(stacked, eqx.filter(trees[0], eqx.is_array, inverse=True))
