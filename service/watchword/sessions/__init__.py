"""Sessions: what a verified code gives."""
