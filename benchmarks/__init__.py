"""What users feel, measured as ratios to something run beside it: ``python -m benchmarks``."""
