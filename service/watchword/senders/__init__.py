"""Senders: how a mail leaves, one adapter of `watchword.mail.ports.Sender` a file.

They import nothing of Watchword but `mail`. All of them pass the contract suite of
`tests/unit/senders/`; a new one is added to it there.
"""
