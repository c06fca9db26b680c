"""Train, evaluate, save and show any algorithm, by the contract alone."""
