"""Speed and memory against the peers that are installed, as ratios measured in one run."""
