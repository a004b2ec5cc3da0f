"""Few-shot learners: an episode becomes a loss."""
