"""Pairs of an image and its depth: readers, generated scenes, and augmentation."""
