"""Many runs side by side: what to run, and what the differences between them show."""
