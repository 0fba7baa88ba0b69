"""Evaluation of captions and answers with the benchmark's metrics, and comparison with blind baselines.

This package needs no networks or videos. Metrics come from ``pycocoevalcap`` (extra ``text``) and from
sentence embeddings (extra ``text-sbert``); both are imported on first use.
"""
