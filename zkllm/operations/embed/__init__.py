"""The embedding."""
