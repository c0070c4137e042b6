"""The algorithm that moves a generator towards a reward."""
