"""The mathematics of diffusion: tensors in, tensors out. It knows nothing of decisions, networks or files."""
