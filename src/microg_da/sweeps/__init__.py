"""Sweeps from W&B sweep files, run by W&B agents or, without an account, by Optuna."""
