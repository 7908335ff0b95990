"""All weights are trained."""
