"""The arg-max of the logits."""
