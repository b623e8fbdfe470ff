"""One panel estimator a file."""
