"""The files that say which run a folder holds: its configuration, and the seeds of a run of many.

A run of many seeds has `seeds.json` with its configuration, the checkpoint of all seeds, and a
complete run folder `seed-K` per seed.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qdeq._arrays import write_atomically
from qdeq.errors import UserError
from qdeq.runs.seeds import check_seeds
from qdeq.training.config import TrainConfig


@dataclass(frozen=True)
class RunFiles:
    """`config.json` and `seeds.json`; `RunFolder` has the other files too."""

    path: Path

    @property
    def has_many_seeds(self) -> bool:
        """Whether it is a run of many seeds."""
        return self.seeds_path.is_file()

    def of_seed(self, seed: int) -> Self:
        """The folder of one seed of a run of many."""
        return type(self)(self.path / f"seed-{seed}")

    def seed_folders(self) -> list[Self]:
        """A folder per seed, in the order of the seeds; itself for a run of one."""
        if not self.has_many_seeds:
            return [self]
        return [self.of_seed(seed) for seed in self.read_seeds()]

    @property
    def to_continue(self) -> str:
        """The advice for a run that is not finished; a seed's is to go on with all of them.

        A seed that goes ahead on its own keeps the run of all from being continued.
        """
        whole = type(self)(self.path.parent)
        run = whole if whole.has_many_seeds and self in whole.seed_folders() else self
        return f"continue it with `qdeq train --resume {shlex.quote(str(run.path))}`"

    @property
    def seeds_path(self) -> Path:
        return self.path / "seeds.json"

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    def write_config(self, config: TrainConfig, seeds: Sequence[int] | None = None) -> None:
        """Say what the run is.

        `seeds.json` is written last: what has it is complete.
        """
        if seeds is None:
            write_atomically(self.config_path, config.to_json().encode())
            return
        for seed in seeds:
            folder = self.of_seed(seed)
            make_folder(folder.path)
            folder.write_config(config.replace(seed=seed))
        content = {"seeds": list(seeds), "config": json.loads(config.to_json())}
        write_atomically(self.seeds_path, (json.dumps(content, indent=2) + "\n").encode())

    def read_config(self) -> TrainConfig:
        """The configuration; of a run of many seeds, that which they have in common.

        Raises
        ------
        UserError
            When the file is damaged or of a newer version.
        """
        if self.has_many_seeds:
            config = json.dumps(self._read_seeds_file()["config"])
            return TrainConfig.from_json(config, source=str(self.seeds_path))
        return TrainConfig.from_json(text_in(self.config_path), source=str(self.config_path))

    def read_seeds(self) -> list[int]:
        """The seeds of the run.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        return (
            self._read_seeds_file()["seeds"] if self.has_many_seeds else [self.read_config().seed]
        )

    def _read_seeds_file(self) -> dict[str, Any]:
        try:
            content = json.loads(text_in(self.seeds_path))
            return {"config": content["config"], "seeds": check_seeds(content["seeds"])}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.seeds_path} is damaged ({error}): restore it or train again"
            ) from error


def make_folder(path: Path) -> None:
    """Make a folder within a run's, where it is not there yet."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {path} ({error.strerror}): choose another run folder"
        ) from error


def text_in(path: Path) -> str:
    """The text of a file of a run; a `UserError` that names it where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): restore it or train again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged (not text): restore it or train again") from error
