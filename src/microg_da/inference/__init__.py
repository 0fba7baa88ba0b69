"""Passes over clips without training: scores, features, and the response to camera roll."""
