"""The one message for an optional package that is not installed."""

import importlib.util

from qdeq.errors import UserError


def check_installed(*packages: str, extra: str, needed_for: str) -> None:
    """Raise `UserError` unless every package can be imported.

    Parameters
    ----------
    packages
        Names as in an import statement.
    extra
        The extra of qdeq that installs them.
    needed_for
        What the user asked for.

    Raises
    ------
    UserError
        Naming the missing package and the command that installs it.

    Examples
    --------
    >>> check_installed("no_such_package", extra="qiskit", needed_for="QiskitExecutor")
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: QiskitExecutor needs the package no_such_package, which is not \
installed: run pip install "qdeq[qiskit]"
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{needed_for} needs the package {package}, which is not installed: "
                f'run pip install "qdeq[{extra}]"'
            )
