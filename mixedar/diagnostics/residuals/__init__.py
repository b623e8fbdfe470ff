"""Tests and pictures' numbers of the residuals."""
