"""Demonstrations in the prompt: nothing is trained, every request pays for the longer prompt."""
