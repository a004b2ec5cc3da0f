"""Ways to run many independent jobs: in this process, in several, on a cluster."""
