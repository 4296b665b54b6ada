"""Graphs of integers for ONNX Runtime: how one is built, what it may hold, where it is written."""
