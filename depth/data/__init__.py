"""Pairs of an image and its depth: readers, the generated scenes, augmentation."""
