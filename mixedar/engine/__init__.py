"""From rows to the likelihood and its maxima; NumPy and SciPy only."""
