"""Use cases: what joins the features. Each is one function in a file of its name."""
