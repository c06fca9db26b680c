"""Worlds to act in, the tasks they pose, and the data that can be made in them."""
