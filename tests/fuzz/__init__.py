"""Exact models that somebody spoiled: refused, or still computed right; `make fuzz`."""
