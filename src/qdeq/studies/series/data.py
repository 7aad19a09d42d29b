"""The series of the study `series`: two that are integrated here, two that were measured."""

from typing import Any

import numpy as np

from qdeq.interop._extras import check_installed

#: Rows of the chaotic series; the laser's first ones are taken.
N_ROWS = 2000


def load_series(name: str) -> np.ndarray:
    """`(T, channels)` of "mackey-glass", "lorenz", "laser" or "sunspots".

    Raises
    ------
    UserError
        Where the package that ships a measured one is not installed.
    """
    if name == "mackey-glass":
        return mackey_glass(N_ROWS)
    if name == "lorenz":
        return lorenz(N_ROWS)
    if name == "laser":
        check_installed("reservoirpy", extra="series", needed_for="the laser's series")
        from reservoirpy.datasets import santafe_laser  # pyright: ignore[reportMissingImports]

        return np.asarray(santafe_laser(), float)[:N_ROWS]
    check_installed("statsmodels", extra="series", needed_for="the sunspots' series")
    from statsmodels.datasets import sunspots  # pyright: ignore[reportMissingImports]

    table: Any = sunspots.load_pandas()
    return table.data[["SUNACTIVITY"]].to_numpy(float)


def mackey_glass(
    n: int, *, delay: float = 17.0, every: float = 3.0, rtol: float = 1e-8
) -> np.ndarray:
    """x' = 0.2 x(t - delay) / (1 + x(t - delay)^10) - 0.1 x, one delay after the other.

    Over one delay the delayed values are known, and it is an ordinary differential equation.

    References
    ----------
    M. C. Mackey and L. Glass, Oscillation and chaos in physiological control systems, Science 197
    (1977).
    """
    from scipy.integrate import solve_ivp

    times = 50 * delay + every * np.arange(n)  # by then it is on its attractor
    begin, last, found = 0.0, 1.2, []
    past: Any = None  # the piece before; 1.2 before the first

    while begin <= times[-1]:

        def slope(t: float, x: np.ndarray, past: Any = past) -> np.ndarray:
            old = 1.2 if past is None else past(t - delay)[0]
            return 0.2 * old / (1 + old**10) - 0.1 * x

        end = begin + delay
        piece = solve_ivp(slope, (begin, end), [last], rtol=rtol, atol=rtol, dense_output=True)
        past = piece.sol
        inside = times[(times >= begin) & (times < end)]
        found += [past(t)[0] for t in inside]
        begin, last = end, piece.y[0, -1]
    return np.array(found)[:, None]


def lorenz(n: int, *, every: float = 0.05, rtol: float = 1e-9) -> np.ndarray:
    """All three coordinates of Lorenz's attractor (10, 28, 8/3).

    References
    ----------
    E. N. Lorenz, Deterministic nonperiodic flow, J. Atmos. Sci. 20 (1963).
    """
    from scipy.integrate import solve_ivp

    def slope(t: float, p: np.ndarray) -> list[float]:
        x, y, z = p
        return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]

    skipped = 400
    times = every * np.arange(n + skipped)
    span = (0.0, float(times[-1]))
    found = solve_ivp(
        slope, span, [1.0, 1.0, 1.0], t_eval=times, method="DOP853", rtol=rtol, atol=rtol
    )
    return found.y.T[skipped:]
