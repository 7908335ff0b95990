"""Fine-tuning inside a probe: real training, the cheap proxy that stands in for it, and the kernel that explains it."""
