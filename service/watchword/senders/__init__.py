"""Senders: how a mail leaves, one adapter of `watchword.mail.ports.Sender` a file.

They import nothing of Watchword but `mail` and `settings`; the settings of one stand in its file.
All of them pass the contract suite of
`tests/unit/senders/`; a new one is added to it there.
"""
