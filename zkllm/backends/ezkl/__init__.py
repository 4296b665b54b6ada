"""Proofs by ezkl: a guarded subprocess, the audit of its keys, and the circuits of one unit."""
