"""`qdeq certify`: what is proven of the equilibria of a saved model."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from qdeq.cli.console import make_console, print_rows
from qdeq.names import SplitName

if TYPE_CHECKING:
    from qdeq.runs.certify import RunCertificate


@dataclass(frozen=True)
class CertifyCommand:
    """Prove of a run's equilibria that they exist, are unique, and how stable they are."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote; of many seeds the best on the validation split."""

    split: SplitName = "test"
    """Part of the data set whose samples are certified."""

    samples: int = 1000
    """At most so many of them, the first."""

    tolerance: float = 1e-5
    """How near to the equilibrium iteration is to come, for the number of its steps."""

    error: float = 0.01
    """How far shots may put an entry of the equilibrium off, for the number of shots."""

    confidence: float = 0.95
    """With which probability they put none further off."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set's files are now; otherwise where they were in training."""

    json: bool = False
    """Print the result as one line of JSON instead of a table."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.certify import certify_run
        from qdeq.runs.summary import finite_or_none

        result = certify_run(
            self.run,
            split=self.split,
            samples=self.samples,
            tolerance=self.tolerance,
            error=self.error,
            confidence=self.confidence,
            data_dir=self.data_dir,
        )
        if self.json:
            print(json.dumps(finite_or_none(dataclasses.asdict(result))))
            return
        title = f"{result.run}: {result.n_samples:,} {result.split} samples"
        print_rows(make_console(), _rows(result), title=title)


def _rows(result: "RunCertificate") -> dict[str, str]:
    rows = {
        "contraction factor L, mean": _number(result.factor_mean),
        "contraction factor L, max": _number(result.factor_max),
        "L below 1": f"{result.contraction_fraction:.2%}",
        "one equilibrium, proven": f"{result.unique_fraction:.2%}",
        "L for all training inputs' region": _number(result.region_factor),
        "largest Jacobian sampled": _number(result.sampled_max),
        "L over largest sampled, mean": _number(result.tightness),
        "spectral radius at equilibria": (
            f"{_number(result.spectral_radius_mean)} mean, "
            f"{_number(result.spectral_radius_max)} max"
        ),
    }
    if result.max_contraction is not None:
        rows["trained to stay below"] = _number(result.max_contraction)
    if result.exists_fraction < 1:
        rows["an equilibrium, proven"] = f"{result.exists_fraction:.2%}"
    if result.unique_fraction > 0:
        rows[f"steps to {result.tolerance:g}, at most"] = f"{result.steps_max:,.0f}"
    if result.contraction_fraction > 0:
        rows["errors are amplified by"] = f"{_number(result.sensitivity_max)} at most"
        rows[f"shots for {result.error:g} at {result.confidence:.0%}"] = (
            f"{result.shots_max:,.0f} per observable, at most"
        )
    if result.contraction_fraction < 1:
        rows["where L is 1 or more"] = (
            "nothing is proven by it: train with --max-contraction 0.9 to have it below"
        )
    return rows


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "no bound"
