"""What is taken along of a run: a report for people, a model card, and both with the model."""
