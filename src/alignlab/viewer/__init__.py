"""Browse run directories: a local web application over an index of their records."""
