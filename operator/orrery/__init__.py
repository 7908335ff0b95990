"""Orrery: predicts which language model, adapted how, gives the quality you need at the least money."""
