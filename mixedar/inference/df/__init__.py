"""Degrees of freedom, and covariances that go with them."""
