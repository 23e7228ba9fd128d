"""What can go wrong between a sidecar and what it is told to enforce."""

from __future__ import annotations


class ControlError(Exception):
    """Base of this package's errors; the message is one line for the operator."""


class SnapshotRefused(ControlError):
    """A snapshot cannot be enforced; the one in force stays, and the control plane is told why."""


class StreamEnded(ControlError):
    """The stream to the control plane ended or could not be had; it is tried again."""


class StoredSnapshotUnfit(ControlError):
    """The last good snapshot on disk cannot be used; the message names the file."""
