"""Tables and JSON of what was found; no arithmetic."""
