"""Images on disk: taking them in, reading them, splitting them, handing them to a network."""
