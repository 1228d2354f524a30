"""The embedded stories: a grammar whose true probabilities are known, so that a loss has a floor."""
