"""Signals: what a signal and a sampling rate must be, how good it is, which band of it is kept (paper, section 3.2)."""
