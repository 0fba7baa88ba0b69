"""Removal of gravity from real footage: clips filmed on Earth become a data set in AVA's layout without an upright.

``rolled`` turns the camera. ``floating`` cuts people out and lets them float in front of other walls. Boxes, labels and
the true up of people are known in both. See ``docs/weightless.md``.
"""
