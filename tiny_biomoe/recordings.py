"""Recordings in files: `find` them below a folder, `read` one."""

from .readers.read import FORMATS, LeftOut, Recording, Recordings, Skipped, find, read

__all__ = ["FORMATS", "LeftOut", "Recording", "Recordings", "Skipped", "find", "read"]
