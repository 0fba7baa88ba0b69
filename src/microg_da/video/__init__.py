"""Videos of any kind in, people and what they do out: prediction, and the collection of new clips.

A video is read once from beginning to end and never held: memory does not grow with its length.
"""
