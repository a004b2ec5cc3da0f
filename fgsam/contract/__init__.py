"""What every optimizer and every learner promises, as functions that a test can call."""
