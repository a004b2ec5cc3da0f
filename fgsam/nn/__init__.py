"""Encoders on fields, and what they owe to other rows."""
