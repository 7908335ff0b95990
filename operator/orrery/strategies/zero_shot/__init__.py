"""The model as it is: nothing is adapted, and every other strategy is measured against it."""
