"""Seeded interruptions of a running operator on a real API server: `python -m tests.chaos --seed 1 --count 200`."""
