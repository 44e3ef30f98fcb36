"""The network in PyTorch: two encoders, one gate, 192 numbers (paper, section 3.1)."""
