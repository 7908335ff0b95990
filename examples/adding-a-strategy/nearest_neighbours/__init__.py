"""Answer as the most similar training examples do: no training, no demonstrations, one embedding a request."""
