"""How far from the equilibrium every solver ends with finite shots; the data of a figure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qdeq.equilibrium import (
    Anderson,
    Broyden,
    ConstantShots,
    Equilibrium,
    JacobianFree,
    KrasnoselskiiMann,
    Newton,
    Picard,
    noise_floor,
)
from qdeq.models import QuantumModel, SampledModel, quantum_model
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import make_trainer

SHOTS = (30, 100, 300, 1000, 3000, 10_000, 100_000)
STEPS = 30
_SAMPLES = 64
_TOLERANCE: Any = {"rtol": 0.0, "atol": 0.0}  # every solver takes all steps: the shots are equal

#: Newton's steps have the exact Jacobian: its error is that of the values alone.
SOLVERS: dict[str, Any] = {
    "picard": Picard(**_TOLERANCE),
    "anderson": Anderson(**_TOLERANCE),
    "broyden": Broyden(**_TOLERANCE),
    "newton": Newton(**_TOLERANCE),
    "krasnoselskii-mann": KrasnoselskiiMann(**_TOLERANCE),
}


def solver_errors(
    run: Path, *, on_solver: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Error of the equilibrium against shots, for every solver.

    Parameters
    ----------
    run
        Run folder of a trained model, whose equilibria on test samples are looked for.
    on_solver
        Called with a solver's name before it is measured.

    Returns
    -------
    dict
        `shots`; `errors`, per solver the root-mean-square over samples of |m - m*|, m* solved for
        with exact values; `floor`, the sampling error of one evaluation at m*; `n_samples`;
        `steps`, evaluations that each solver has; `averaged`, how many of them are averaged;
        `radius`, the median spectral radius at m*.
    """
    from qdeq.equilibrium import spectral_radius

    folder = RunFolder(run)
    config = folder.read_config()
    trainer = make_trainer(config, devices=1)
    trained = folder.load_model(trainer.init().best_classifier)
    model = quantum_model(trained.model, "a study of noise")
    x = jnp.asarray(trainer.dataset.test.x[:_SAMPLES])
    on_solver("exact")
    star, converged = _equilibria(model, x)
    # Where there is no equilibrium to be found there is no error to be measured.
    x, star = x[np.asarray(converged)], star[np.asarray(converged)]
    radius = jax.jit(jax.vmap(lambda m, x: spectral_radius(model.prepare().bind(x), m)))(star, x)
    errors = {}
    for name, solver in SOLVERS.items():
        on_solver(name)
        solve = _sampled_solve(model, solver)
        keys = jax.random.split(jax.random.key(0), len(x))
        errors[name] = [
            _rms(solve(x, keys, jnp.asarray(shots, jnp.int32)) - star) for shots in SHOTS
        ]
    floors = [
        _rms_of(jax.vmap(lambda m, s=shots: noise_floor(s, m.shape[0], value=m))(star))
        for shots in SHOTS
    ]
    return {
        "shots": list(SHOTS),
        "errors": errors,
        "floor": floors,
        "n_samples": len(x),
        "steps": STEPS,
        "averaged": STEPS - SOLVERS["krasnoselskii-mann"].burn_in,
        "radius": float(np.median(np.asarray(radius))),
    }


def _equilibria(model: QuantumModel, x: Array) -> tuple[Array, Array]:
    layer = Equilibrium(Broyden(1e-5, 1e-6), JacobianFree(), max_steps=60)

    @jax.jit
    def solve(x: Array) -> tuple[Array, Array]:
        form = model.prepare()

        def one(x: Array) -> tuple[Array, Array]:
            solution = layer(form.bind(x), jnp.zeros(model.n_observables, x.dtype))
            return solution.value, solution.stats.converged

        return jax.vmap(one)(x)

    return solve(x)


def _sampled_solve(model: QuantumModel, solver: Any) -> Callable[[Array, Array, Array], Array]:
    layer = Equilibrium(solver, JacobianFree(), max_steps=STEPS)
    sampled = SampledModel(model)

    @jax.jit
    def solve(x: Array, keys: Array, shots: Array) -> Array:
        def one(x: Array, key: Array) -> Array:
            start = jnp.zeros(model.n_observables, x.dtype)
            return layer(sampled.bind(x), start, key=key, shots=ConstantShots(shots)).value

        return jax.vmap(one)(x, keys)

    return solve


def _rms(differences: Array) -> float:
    return _rms_of(jnp.linalg.norm(differences, axis=-1))


def _rms_of(lengths: Array) -> float:
    return float(np.sqrt(np.mean(np.asarray(lengths, float) ** 2)))
