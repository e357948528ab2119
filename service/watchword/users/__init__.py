"""People with an account, and registrations that may become one."""
