"""Content that means harm: bounded, told of once, and noticed by nobody else."""
