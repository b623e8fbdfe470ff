"""Tests of terms, and likelihood-ratio tests."""
