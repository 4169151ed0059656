"""Work of the tools: the command line, runs, and predictions."""
