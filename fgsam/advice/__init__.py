"""What can be known about an optimizer on a graph within a minute, before any real training."""
