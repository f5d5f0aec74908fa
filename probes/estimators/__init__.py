"""Probes as scikit-learn estimators."""
