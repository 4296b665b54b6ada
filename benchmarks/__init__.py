"""Side-by-side measurements; every figure in the documentation comes from one of these."""
