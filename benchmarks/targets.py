"""The target table as data: what each figure must be, and against whom. Nothing is measured."""

from dataclasses import dataclass

# CPU seconds of one implicit training step of the published program, batch 256, measured once on
# one thread of a shared machine (the smaller end of each range).
PUBLISHED_CODE_CPU = {
    (4, "amplitude"): 0.15,
    (4, "angle"): 0.24,
    (10, "amplitude"): 1.3,
    (10, "angle"): 4.9,
}

SAME_WORK = "published algorithm, every sample"
OWN = "published algorithm, own settings"
PENNYLANE = "PennyLane QNode"
IMPLICIT = "qdeq implicit"
DIRECT_1 = "qdeq direct(1)"
DIRECT_10 = "qdeq direct(10)"
MORE_STEPS = "qdeq implicit, 4x max_steps"
PUBLISHED_CODE = "published code, CPU seconds"


@dataclass(frozen=True)
class StepTarget:
    """Targets of one implicit training step, batch 256.

    Attributes
    ----------
    seconds
        At most.
    versus_published, versus_code
        How many times faster than the plain published algorithm on the same work, and than the
        published code's CPU seconds, at least.
    """

    seconds: float
    versus_published: float | None
    versus_code: float


STEP = {
    (4, "amplitude"): StepTarget(0.7e-3, 50, 200),
    (4, "angle"): StepTarget(0.7e-3, 50, 200),
    (10, "amplitude"): StepTarget(12e-3, 30, 100),
    (10, "angle"): StepTarget(100e-3, None, 50),
}
SEED_STEP = 0.15e-3
VERSUS_DIRECT_1 = 1.3
MEMORY_VERSUS_DIRECT_1 = 1.1
READY = {4: 2.5, 10: 4.0}
READY_WARM = 1.0
IMPORT = 1.5
HUNDRED_EPOCHS = 10.0
GRID = 15.0
SECOND_FIT = 0.3
WIDE = {2: 0.5, 3: None}
