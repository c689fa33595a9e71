"""Stands in for the real package, so that the extension is tested by itself."""
