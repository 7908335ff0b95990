"""Ways to adapt a model: one folder each, with a pure ``forecast.py`` and, for probes alone, ``measure.py``."""
