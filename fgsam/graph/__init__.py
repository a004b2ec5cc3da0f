"""Graphs and their receptive fields."""
