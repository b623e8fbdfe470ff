"""Benchmarks of mixedar against its rivals: problems, adapters and a runner."""
