"""Settings that make a run short in tests which ask about runs and not about methods."""

UP = ["adaptation.args.steps=2", "adaptation.args.target_steps=1", "adaptation.args.crops=16"]
"""The default method's estimator of up is hardly trained."""
