"""From a text and settings to a run folder: the schedule, the loop, several processes."""
