"""The policy side: models that reply."""
