"""INT8: what activations look like, the thresholds that follow, and where a graph is quantised."""
