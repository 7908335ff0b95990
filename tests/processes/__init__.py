"""Real processes, signals and files on this machine; no model and no cluster."""
