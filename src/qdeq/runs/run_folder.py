"""The folder of a run, of one seed or many: how it is taken, opened and held.

How its files are written and read is in `run_files.py` (configuration and seeds), `data_files.py`,
`training_files.py` and `result_files.py`; when, is decided in `run.py` and `session.py`.
"""

import contextlib
import errno
import itertools
import os
import shlex
import time
import warnings
from pathlib import Path

from qdeq._locks import FolderInUse, held
from qdeq.errors import UserError, check_path
from qdeq.runs.data_files import DataFiles
from qdeq.runs.result_files import ResultFiles
from qdeq.runs.training_files import Checkpoint as Checkpoint
from qdeq.runs.training_files import Metrics, TrainingFiles, Tree
from qdeq.training.config import TrainConfig


class RunFolder(DataFiles, TrainingFiles, ResultFiles):
    """Paths and files of a run; make one with `create`, `create_in_runs` or `open`."""

    @classmethod
    def create(cls, path: str | Path) -> "RunFolder":
        """Take a folder for a new run: an empty one, or one that does not exist.

        Of several processes that ask for the same folder at once, one gets it.

        Raises
        ------
        UserError
            When the folder exists and holds something, or cannot be made.
        """
        check_path("out", path)
        folder = cls(Path(path))
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.path.iterdir())
            if not os.access(folder.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if not occupied:
                # Making a folder fails where somebody else has just made it.
                folder.checkpoint_path.parent.mkdir()
        except FileExistsError:
            occupied = True
        except OSError as error:
            raise UserError(
                f"out={str(path)!r}: the run folder cannot be written ({error.strerror}); choose "
                "another one"
            ) from error
        if occupied:
            if not folder.path.is_dir():
                raise UserError(f"out={str(path)!r} is a file: give a new folder's name")
            # Also where another process has just taken it and has not written its configuration.
            raise UserError(
                f"out={str(path)!r}: the folder exists and is not empty; choose another one, or, "
                "if it is a run's, continue that with `qdeq train --resume "
                f"{shlex.quote(str(path))}`"
            )
        return folder

    @classmethod
    def create_in_runs(cls, config: TrainConfig) -> "RunFolder":
        """Take a new folder such as `runs/digits-4-implicit-20250131-235959`."""
        stem = f"{config.data_name}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in itertools.count(1):  # runs within one second
            path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
            if not path.exists():
                with contextlib.suppress(UserError):
                    return cls.create(path)
                if not path.exists():  # no other process was faster: its error says what is wrong
                    return cls.create(path)
        raise AssertionError("numbers end")

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open the folder of an existing run.

        Raises
        ------
        UserError
            When there is no such folder, or neither `config.json` nor `seeds.json` in it.
        """
        check_path("run", path)
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise UserError(f"run={str(path)!r}: there is no such folder; give a run folder")
        if not folder.config_path.is_file() and not folder.has_many_seeds:
            raise UserError(
                f"run={str(path)!r}: the folder has no config.json, so it is not a run folder; "
                "give the folder that `qdeq train` wrote"
            )
        return folder

    def clear(self) -> None:
        """Undo `create` where its process was killed before the run began, as while it read data.

        A run holds its folder from then on, so that what nobody holds is left over.
        """
        with contextlib.suppress(OSError, FolderInUse):
            if [path.name for path in self.path.iterdir()] == [self.checkpoint_path.parent.name]:
                with self.held() as certain:
                    if certain:
                        self.checkpoint_path.parent.rmdir()

    def discard(self) -> None:
        """Remove what `create` made, where nothing was added to it."""
        with contextlib.suppress(OSError):
            self.checkpoint_path.parent.rmdir()
            self.path.rmdir()

    def held(self) -> contextlib.AbstractContextManager[bool]:
        """Keep other processes from writing to the same run.

        Raises
        ------
        FolderInUse
            On entering, when another process trains this run.
        """
        return held(
            self.path,
            f"run={str(self.path)!r}: another process is training it; wait for its end, or stop it "
            "first",
        )

    def load_model(self, template: Tree) -> Tree:
        """As `TrainingFiles.load_model`; warns of a run that is not finished, or was not trained.

        Raises
        ------
        UserError
            When the file cannot be used, or no epoch has left a model yet: after a kill the seeds
            of a run of many still have those that training began with.
        """
        if not self.summary_path.exists() and self.checkpoint_path.exists():
            epochs, run = self.read_checkpoint().epoch, f"run={str(self.path)!r}"
            if not epochs:
                raise UserError(
                    f"{run}: the run is not finished, and its model is the one that training began "
                    f"with; {self.to_continue}"
                )
            warnings.warn(
                f"{run}: the run is not finished: its model is the best of the first {epochs} "
                f"epochs; {self.to_continue}",
                stacklevel=3,
            )
        elif self.summary_path.exists():
            summary = self.read_summary()
            if summary.stopped and not summary.best_epoch:
                warnings.warn(
                    f"run={str(self.path)!r}: no epoch ended with finite numbers: its model is the "
                    "one that training began with",
                    stacklevel=3,
                )
        return super().load_model(template)

    def read_histories(self) -> list[list[Metrics]]:
        """The metrics of a finished run, per seed.

        Raises
        ------
        UserError
            When a summary or a history is missing or damaged.
        """
        return [f.read_metrics(epochs=f.read_summary().epochs) for f in self.seed_folders()]
