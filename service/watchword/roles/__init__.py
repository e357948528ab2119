"""Roles: named sets of permissions that users hold."""
