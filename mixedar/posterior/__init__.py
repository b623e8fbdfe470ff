"""The posterior of a fitted model, by priors on its parameters."""
