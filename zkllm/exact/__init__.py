"""The exact model: integers only, one result on every machine.

`arithmetic` holds the operations and is the reference; `tables`, `bounds` and `quantise` make a
model from float weights; `specification` and `model` are its form on disk; `reference` runs a unit
in numpy; `graph` compiles units to ONNX.
"""
