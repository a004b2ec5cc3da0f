"""Nodes divided into those that train, that choose and that test."""
