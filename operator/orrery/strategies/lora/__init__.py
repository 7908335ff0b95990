"""Low-rank adapters on frozen 16-bit weights (Hu et al. 2021, arXiv 2106.09685)."""
