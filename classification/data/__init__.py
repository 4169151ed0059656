"""Classified images: folders and torchvision's data sets, and how they become the network's input."""
