"""Shipped models; data only, found through importlib.resources."""
