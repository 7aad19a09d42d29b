"""What lies in a folder of images: its splits, the folders of the classes, the files that count.

Paths alone; pixels are read in `image_files`, and a data set is made of them in `files`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qdeq.data.frames import listing
from qdeq.errors import UserError

#: What Pillow reads on every machine, whatever it was built with.
IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# In lower case, as they are compared.
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "training_set", "train_set"),
    "valid": ("val", "valid", "validation", "val_set", "valid_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}
# Written by systems and programs beside whatever they show: no folder of theirs is a class.
_OF_SYSTEMS = ("__macosx", "__pycache__", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")


@dataclass(frozen=True)
class FolderSplits:
    """Folders of the splits, each with a folder for every class.

    Attributes
    ----------
    train
        The folder itself where it has no splits.
    valid, test
        None where there are none.
    ignored
        Names of folders of images beside the splits.
    """

    train: Path
    valid: Path | None = None
    test: Path | None = None
    ignored: tuple[str, ...] = ()


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is none of the user's: `.DS_Store`, `.ipynb_checkpoints`.

    >>> is_hidden(Path("cat/.DS_Store")), is_hidden(Path("cat/Thumbs.db"))
    (True, True)
    """
    return path.name.startswith(".") or path.name.lower() in _OF_SYSTEMS


def is_image(path: Path) -> bool:
    """Whether a name ends as images do."""
    return path.suffix.lower() in IMAGE_ENDINGS


def image_paths(folder: Path) -> list[Path]:
    """The images of a folder and the folders in it, without hidden ones, in the order of names."""
    return sorted(path for path in _files(folder) if is_image(path))


def find_splits(folder: Path) -> FolderSplits:
    """Tell ``DIR/class/image.png`` from ``DIR/train/class/image.png`` by names and contents.

    A folder is a split if it is called one and its images lie in its folders: a class may be called
    test.

    Raises
    ------
    UserError
        If two folders are the same split, there is none to train on, or all folders are called
        splits and none has classes.
    """
    named = {path: part for path in _folders(folder) if (part := _split_named(path.name))}
    splits = {path: part for path, part in named.items() if _inner(path)}
    for path in splits:
        if _has_images(path):
            raise UserError(
                f"{path} holds images itself and folders of images ({listing(_inner(path), 3)}): "
                "move the loose ones into the folders of their classes"
            )
    if not splits:
        flat = [path.name for path in named if _has_images(path)]
        if flat and len(flat) == len(_inner(folder)):
            raise UserError(
                f"{folder}: the images of {listing(flat)} lie in no folder of a class: put those "
                f"of each class into a folder named after it, such as {flat[0]}/cat"
            )
        return FolderSplits(folder)
    found: dict[str, Path] = {}
    for path, part in splits.items():
        if part in found:
            raise UserError(
                f"{folder} has the folders {found[part].name} and {path.name}, which both name the "
                f"{part} split: put them together, or rename one"
            )
        found[part] = path
    if "train" not in found:
        raise UserError(
            f"{folder} has the folder {listing([path.name for path in splits])} and none to train "
            "on: name that train, or give the folder whose folders are the classes"
        )
    names = {path.name for path in splits}
    return FolderSplits(
        found["train"],
        found.get("valid"),
        found.get("test"),
        tuple(name for name in _inner(folder) if name not in names),
    )


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """The images of every class by the name of its folder.

    Raises
    ------
    UserError
        If there are none, or a folder holds no image itself.
    """
    folders = _folders(folder)
    classes = {own.name: image_paths(own) for own in folders}
    if not any(classes.values()):
        loose = [p.name for p in _entries(folder) if p.is_file()]
        loose += [path.relative_to(folder).as_posix() for own in folders for path in _files(own)]
        found = f" (it has {listing(loose, 3)})" if loose else ""
        raise UserError(
            f"{folder} holds no folder of images{found}: put the images of each class into a "
            f"folder named after it ({', '.join(IMAGE_ENDINGS)}), or give a table's file"
        )
    for own in folders:
        if not classes[own.name]:
            others = [path.relative_to(own).as_posix() for path in _files(own)]
            found = f" (it has {listing(others, 3)})" if others else ""
            raise UserError(
                f"{own} is a folder beside those of the classes and holds no image{found}: add "
                f"images of that class ({', '.join(IMAGE_ENDINGS)}), or move it elsewhere"
            )
        if not _has_images(own):
            raise UserError(
                f"{own}: all its images lie in folders in it ({listing(_inner(own), 5)}), and "
                f"those of a class lie in its own: move them there, or give {own} if these are the "
                "classes"
            )
    return classes


def skipped_in(folder: Path) -> list[str]:
    """Files that are no images by their names, in the folders of classes; images beside these."""
    loose = [path for path in _entries(folder) if path.is_file() and is_image(path)]
    others = [path for own in _folders(folder) for path in _files(own) if not is_image(path)]
    return [path.relative_to(folder).as_posix() for path in (*loose, *sorted(others))]


def files_read(folder: Path) -> list[Path]:
    """The images that a data set of a folder is made of.

    Raises
    ------
    UserError
        As `find_splits`.
    """
    splits = find_splits(folder)
    parts = [part for part in (splits.train, splits.valid, splits.test) if part is not None]
    return sorted(path for part in parts for own in _folders(part) for path in image_paths(own))


def _split_named(name: str) -> str | None:
    plain = name.lower().replace("-", "_").replace(" ", "_")
    return next((part for part, names in _SPLITS.items() if plain in names), None)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}): give a folder that you may read"
        ) from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _inner(folder: Path) -> list[str]:
    """Names of the folders in it that hold images."""
    return [path.name for path in _folders(folder) if any(map(is_image, _files(path)))]


def _has_images(folder: Path) -> bool:
    return any(path.is_file() and is_image(path) for path in _entries(folder))


def _files(folder: Path, within: tuple[Path, ...] = ()) -> Iterator[Path]:
    # Links are followed, a class may be one; not into a folder that holds the link.
    within = (*within, folder.resolve())
    for path in _entries(folder):
        if path.is_dir():
            if path.resolve() not in within:
                yield from _files(path, within)
        elif path.is_file():
            yield path
