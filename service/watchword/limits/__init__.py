"""Send and call limits: how often a mailbox, a client or a caller may ask."""
