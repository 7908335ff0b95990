"""The frame every probe runs in: read data, load a model once, run the trials, report."""
