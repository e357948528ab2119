"""The audit: who signed in, what was revoked, granted and refused."""
