"""The run folder, read safely and written atomically; the machine, the model and the text behind it."""
