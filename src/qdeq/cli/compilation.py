"""Compiled programs kept between runs of the `qdeq` command, by JAX's own persistent cache.

Only the command switches it on: a library that writes into a home folder on import would surprise.
"""

import os
import sys

from qdeq._folders import cache_folder, private_folder, say_once


def keep_compiled_programs() -> None:
    """Let JAX, which must not be imported yet, keep what it compiles in the user's cache folder.

    The folder is `xla` in the one of `qdeq._folders`; `QDEQ_CACHE=off` switches both off. JAX's
    own variables win where they are set. JAX runs what it finds there: a folder that somebody else
    could write is not used, and a warning says so.

    Raises
    ------
    UserError
        If `QDEQ_CACHE` has a value that means nothing.
    """
    folder = cache_folder()
    if folder is None or "jax" in sys.modules:  # imported: somebody else decides, such as a test
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(private_folder(folder / "xla"))
        except OSError as error:
            say_once(f"compiled programs are not kept between runs: {error}")
    # Without these JAX keeps only what took a second to compile. The fifty small programs that
    # initialise a model take as long together as one large one.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
