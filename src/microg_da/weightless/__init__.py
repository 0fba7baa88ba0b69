"""Weightless data sets from footage of Earth, in AVA's layout: clips with rolled cameras or floating people.

``rolled`` turns the camera. ``floating`` cuts people out and lets them float in front of other backgrounds. Both have
boxes, labels and the true up of people. See ``docs/weightless.md``.
"""
