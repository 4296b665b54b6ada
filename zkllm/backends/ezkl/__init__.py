"""Proofs by ezkl: the circuit of a unit, its keys and what a policy pins of them."""
