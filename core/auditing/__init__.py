"""What is wrong with a dataset: findings that anyone can read, and the map of its images."""
