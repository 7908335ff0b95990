"""Orrery: predicts which language model, adapted how, gives the quality you need at the least money."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("orrery")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
