"""`watchword doctor`: what would keep `serve` from working, each with its remedy.

A check is a small function with a name that answers findings; `checkup.py` joins them.
"""
