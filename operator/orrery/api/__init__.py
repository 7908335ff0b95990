"""Resource types of ``orrery.dev/v1alpha1``: parsed once, here; the only source of the CRDs."""
