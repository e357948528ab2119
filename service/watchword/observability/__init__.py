"""What operators see of a running Watchword."""
