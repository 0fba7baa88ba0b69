"""Training: checks before a run, the Lightning module, schedules, stages, and the steps of a run."""
