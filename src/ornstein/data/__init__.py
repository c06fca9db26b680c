"""Data: episodes end to end on one device, views that draw batches, normalisers, and the files they come from."""
