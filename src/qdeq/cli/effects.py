"""Options that change nothing beside the others: said in a line, since the user meant something."""

import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from qdeq.cli.arguments import option_of
from qdeq.names import TABLE_ENCODING

_LAYERED = ("hardware-efficient", "strongly-entangling", "paper-repeated")


def _is_implicit(config: Any) -> bool:
    return config.mode == "implicit"


def _is_layered(config: Any) -> bool:
    return config.ansatz in _LAYERED


def _is_table(config: Any) -> bool:
    return config.encoding == TABLE_ENCODING


def _has_warm_up(config: Any) -> bool:
    return config.warmup_epochs > 0


def _has_fallback(config: Any) -> bool:
    return _is_implicit(config) and not config.random_steps_minus and config.adjoint != "unrolled"


class Rule(NamedTuple):
    """When an option has an effect, and what else it needs for one."""

    counts: Callable[[Any], bool]
    needs: str


Rules = dict[str, Rule]

OF_MODEL: Rules = {
    "ansatz_layers": Rule(_is_layered, f"--ansatz {_LAYERED[0]} or another one with layers"),
    "rotations": Rule(_is_table, "--encoding table"),
    "uploads": Rule(_is_table, "--encoding table"),
}
OF_TRAINING: Rules = {
    **OF_MODEL,
    "layers": Rule(lambda config: config.mode == "direct", "--mode direct"),
    "warmup_layers": Rule(_has_warm_up, "--warmup-epochs"),
    **{
        name: Rule(_is_implicit, "--mode implicit")
        for name in (
            "solver",
            "start",
            "adjoint",
            "max_steps",
            "random_steps_minus",
            "jacobian_weight",
        )
    },
    "fallback": Rule(
        _has_fallback, "--mode implicit, no --random-steps-minus and another --adjoint"
    ),
}
OF_RESOURCES: Rules = {
    "ansatz_layers": OF_MODEL["ansatz_layers"],
    "epochs": Rule(lambda command: command.samples is not None, "--samples"),
    "perturbations": Rule(lambda command: command.gradient == "spsa", "--gradient spsa"),
}


def warn_of_no_effect(given: Collection[str], values: Iterable[Any], rules: Rules) -> None:
    """Name on stderr the options that were given and change nothing.

    Parameters
    ----------
    given
        Names of the fields that the user set.
    values
        What has all options as attributes; one of them for which an option counts is enough.
    rules
        When options count.
    """
    values = list(values)
    for name, rule in rules.items():
        if name in given and not any(rule.counts(value) for value in values):
            option = option_of(name)
            print(
                f"qdeq: warning: {option} changes nothing here: it needs {rule.needs}",
                file=sys.stderr,
            )
