"""Numerical methods: plain objects that define a step."""
