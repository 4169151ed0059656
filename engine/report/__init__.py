"""Reports: records, files, pictures, and comparisons of runs."""
