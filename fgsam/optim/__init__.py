"""Sharpness-aware optimizers, one file for each rule."""
