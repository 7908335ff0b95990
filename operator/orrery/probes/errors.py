"""Refusals of data and models: a reason for machines and a sentence for people."""

from __future__ import annotations


class ProbeError(Exception):
    """What was asked for cannot be read or loaded.

    ``reason`` is the CamelCase word that ends in the report and in the plan's conditions; the message names the field,
    what was found and what to write instead.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DataError(ProbeError):
    """The dataset cannot be used.

    Reasons: ``MissingAsset``, ``UnknownAsset``, ``PathNotFound``, ``PathLeavesVolume``, ``UnreadableFile``,
    ``MissingColumn``, ``MissingSplit``, ``EmptySplit``, ``InvalidInput``, ``InvalidTarget``, ``InvalidOptions``,
    ``UnseenLabel``, ``TooManyLabels``, ``SourceNotFound``, ``RevisionNotFound``, ``MissingPackage``.
    """


class ModelError(ProbeError):
    """The model cannot be loaded.

    Reasons: ``MissingAsset``, ``UnknownAsset``, ``PathNotFound``, ``PathLeavesVolume``, ``ModelNotFound``,
    ``RevisionNotFound``, ``UnreadableModel``, ``MissingPackage``.
    """
