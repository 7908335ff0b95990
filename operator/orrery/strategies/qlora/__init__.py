"""Low-rank adapters on frozen 4-bit weights (Dettmers et al. 2023, arXiv 2305.14314)."""
