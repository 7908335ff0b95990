"""Curve fits with uncertainty: arrays in, posterior out. Knows neither plans nor Kubernetes, only numpy and scipy."""
