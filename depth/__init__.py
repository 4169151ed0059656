"""Monocular depth estimation on any timm backbone; run from a checkout."""
