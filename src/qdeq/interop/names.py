"""Names of parameters that sort as they count, for tools that order parameters by name."""


def numbered(letter: str, count: int) -> tuple[str, ...]:
    """`count` names with enough leading zeros, three digits at least.

    Qiskit orders parameters by name: without zeros, the eleventh would come before the third.

    Examples
    --------
    >>> numbered("t", 2)
    ('t_000', 't_001')
    """
    width = max(3, len(str(count - 1)))
    return tuple(f"{letter}_{i:0{width}d}" for i in range(count))
