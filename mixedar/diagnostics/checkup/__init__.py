"""A diagnosis of a fit: findings, and what to do about them."""
