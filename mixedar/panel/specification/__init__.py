"""Specification tests of panel models."""
