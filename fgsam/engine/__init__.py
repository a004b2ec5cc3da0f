"""Where graph, method and optimizer meet: configs, training, runs."""
