"""Background tasks of the process; each is supervised."""
