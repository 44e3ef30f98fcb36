"""Readers: files as devices and programs write them -> recordings with rate, start and source."""
