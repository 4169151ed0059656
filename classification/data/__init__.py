"""Labeled images: folders and torchvision's data sets, and their transforms to the network's input."""
