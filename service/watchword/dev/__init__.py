"""Watchword on a developer's machine: embedded PostgreSQL, `watchword dev`, `watchword demo`."""
