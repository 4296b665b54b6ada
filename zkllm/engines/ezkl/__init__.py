"""What ezkl can be told: equations over a field, their graph, guarded calls, the audit of keys."""
