"""The mathematics of diffusion: tensors in, tensors out. It knows nothing of reinforcement learning, networks or files."""
