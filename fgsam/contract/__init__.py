"""What every optimizer promises, as functions that a test can call."""
