"""An operation that the package does not have: added by its folder alone, as any other."""
