"""The thin shell around ``advance`` in a cluster: it reads the world, asks the core, and applies the difference."""
