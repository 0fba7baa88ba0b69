"""Captions and answers: reading, scores with the benchmark's metrics, and comparison with blind baselines.

This package is independent of networks and videos. Metrics come from ``pycocoevalcap`` (extra ``text``) and from
sentence embeddings (extra ``text-sbert``); both are imported on first use.
"""
