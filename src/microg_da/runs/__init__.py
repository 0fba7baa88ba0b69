"""The folder of a run: its layout, its record, and the detectors in it."""
