"""Talk to a generator, in a terminal or a page."""
