"""Trained models measured on noisy devices and with finite shots, one device at a time."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from qdeq._numbers import is_correct, nan_unless_finite
from qdeq.circuits import parse_noise
from qdeq.equilibrium import Direct, Equilibrium
from qdeq.models import Predictor, quantum_model
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import make_trainer
from qdeq.studies.study import Device, Numbers, Row
from qdeq.training.layer import layer_of
from qdeq.training.loop import Trainer
from qdeq.training.noisy import evaluate_with_shots


class Measurer:
    """Measures the models of a row; they are loaded once.

    Parameters
    ----------
    row
        Which models.
    runs
        Folder with a run folder per seed.
    seeds
        Those whose training did not diverge.
    repeats
        Evaluations with shots of their own per seed.
    """

    def __init__(self, row: Row, runs: Path, seeds: Sequence[int], repeats: int) -> None:
        self._trainer = make_trainer(row.training, devices=1)
        self._classifiers = load_seeds(self._trainer, runs, seeds)
        self._layer = layer_of(row.training)
        self._seeds, self._repeats = seeds, repeats

    def __call__(self, device: Device) -> Numbers:
        """The numbers of every seed on a device; with shots it has the noise of the training."""
        what, shots = (self._layer, self._trainer, self._seeds), device.columns.get("shots")
        if shots is None:
            return _exact(self._classifiers, device.columns["noise"], *what)
        return _sampled(self._classifiers, shots, *what, self._repeats)


def load_seeds(trainer: Trainer, runs: Path, seeds: Sequence[int]) -> list[Predictor]:
    """The best models of a row's seeds."""
    template = trainer.init().best_classifier
    return [RunFolder(runs / f"seed-{seed}").load_model(template) for seed in seeds]


def with_noise(classifier: Predictor, noise: str) -> Predictor:
    """The same classifier on another device."""
    model = quantum_model(classifier.model, "noise")
    method = "auto" if noise and model.method == "statevector" else model.method
    changed = dataclasses.replace(model, noise=parse_noise(noise) if noise else None, method=method)
    return eqx.tree_at(lambda c: c.model, classifier, changed)


def _exact(
    classifiers: Sequence[Predictor],
    noise: str,
    layer: Equilibrium | Direct,
    trainer: Trainer,
    seeds: Sequence[int],
) -> Numbers:
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
def _prepare(classifiers: Predictor) -> PyTree:
    return eqx.filter_vmap(lambda classifier: classifier.model.prepare())(classifiers)


@eqx.filter_jit
def _solve(
    classifiers: Predictor,
    forms: PyTree,
    layer: Equilibrium | Direct,
    x: Array,
    y: Array,
    split: str,
) -> dict[str, Array]:
    def seed(classifier: Predictor, form: Any) -> dict[str, Array]:
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
    classifiers: Sequence[Predictor],
    shots: int,
    layer: Equilibrium | Direct,
    trainer: Trainer,
    seeds: Sequence[int],
    repeats: int,
) -> Numbers:
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
