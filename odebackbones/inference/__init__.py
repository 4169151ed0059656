"""Models for inference: norms folded into convolutions, weights packed for the CPU."""
