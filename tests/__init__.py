"""Orrery's tests."""
