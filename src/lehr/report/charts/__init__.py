"""Charts of results: pure functions, a file a subject."""
