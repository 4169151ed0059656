"""Reports: records, files, pictures, and what two runs differ in."""
