"""Named graphs, one loader each, and a user's own."""
