"""How the next probe is chosen: one module a designer, found by entry point and named by ``probing.designer``."""
