"""The installed version; read on first use, since looking it up takes as long as `import qdeq`."""

from importlib.metadata import version

__version__ = version("qdeq")
