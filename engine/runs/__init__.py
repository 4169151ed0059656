"""What the tools do, from the command line to a run and back."""
