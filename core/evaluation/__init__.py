"""What a classifier is worth: scores, metrics, charts and explanations."""
