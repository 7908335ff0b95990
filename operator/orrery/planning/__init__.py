"""The pure core: candidates, experiment design, decision. No I/O, no clock, no randomness but the plan's seed."""
