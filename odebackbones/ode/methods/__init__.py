"""Numerical methods: plain objects that say what a step is."""
