"""Captions and answers: read, scored with the benchmark's metrics, and set beside what blind baselines reach.

The room knows nothing of networks or videos. Metrics come from ``pycocoevalcap`` (extra ``text``) and from
sentence embeddings (extra ``text-sbert``); both are imported when a metric is first asked for.
"""
