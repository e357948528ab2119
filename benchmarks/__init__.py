"""Benchmarks: real server processes under load; README.md says what each figure means."""
