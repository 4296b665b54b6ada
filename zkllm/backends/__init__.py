"""Backends: the ways in which the verifier can be convinced of one unit."""
