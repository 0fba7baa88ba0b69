"""Prediction of people and their actions in videos of any kind, and the collection of new clips.

A video is read as a stream, so that memory does not grow with its length.
"""
