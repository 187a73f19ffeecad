"""Named schemes; data only, found through importlib.resources."""
