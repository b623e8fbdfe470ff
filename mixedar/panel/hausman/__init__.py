"""The Hausman test, its forms, and tests that replace it."""
