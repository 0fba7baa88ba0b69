"""Passes over clips in which no weight is trained: scores, features, and the response to camera roll."""
