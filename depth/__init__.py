"""Monocular depth on any timm backbone; run from a checkout."""
