"""Several runs that answer one question: a search, a cross-validation, an ensemble."""
