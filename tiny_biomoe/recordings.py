"""Recordings in files: `find` them below a folder, `read` one."""
