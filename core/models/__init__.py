"""Backbones, their weights, the heads on top of them and the finished classifier."""
