"""Captions and answers: reading, scores with the benchmark's metrics, and comparison with blind baselines.

The room knows nothing of networks or videos. Metrics come from ``pycocoevalcap`` (extra ``text``) and from
sentence embeddings (extra ``text-sbert``); both are imported when a metric is first asked for.
"""
