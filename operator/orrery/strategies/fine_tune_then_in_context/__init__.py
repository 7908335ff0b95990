"""Low-rank adapters first, then demonstrations in the prompt of the tuned model."""
