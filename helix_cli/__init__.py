"""Helix: lossless speculative decoding over a paged K/V cache, on the command line."""

__version__ = "0.1.0"
