"""Parts of a report: a file a subject, each a function from a study to a part."""
