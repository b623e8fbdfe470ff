"""Small matrices in large numbers, and automatic differentiation."""
