"""Which checkpoints on this machine can draft for a target: where they lie, what forbids each, how fast they are."""
