"""Recordings in files: `find` them below a folder, `read` one."""

from .readers.discovery import find
from .readers.formats import Recording, read

__all__ = ["Recording", "find", "read"]
