"""Inference: which backend computes the network for images, and how it is given threads and batches."""
