"""Prediction of people and their actions in videos of any kind, and the collection of new clips.

A video is read once from beginning to end and never held: memory does not grow with its length.
"""
