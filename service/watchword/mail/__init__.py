"""Mail: what a person is sent, as a value; how it leaves is the senders' business.

A mail is a function of the configuration, the locale, the code and the stored address. Nothing
else of a request reaches it, so no caller can put a word or a link of his own into one.

A new kind of mail is three templates in every folder of `templates/` and one method of `Renderer`.
A new language is one more folder with the same files; nothing else names the languages.
"""
