"""The reward side: models that tell a character's replies from all others."""
