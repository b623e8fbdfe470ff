"""Hypotheses as users write them, and the results of tests."""
