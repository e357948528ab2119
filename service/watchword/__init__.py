"""Watchword: sign-in by one-time codes, sessions and roles, over gRPC."""
