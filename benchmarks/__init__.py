"""One module a benchmark: `python -m benchmarks.NAME [options] [--json FILE]`."""
