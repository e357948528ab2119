"""Callers: the programs that call Watchword, their service keys and scopes."""
