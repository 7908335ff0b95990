"""Code that runs torch, on tiny models of random weights: no download, the real code paths."""
