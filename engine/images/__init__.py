"""Image files, folders and videos: read, checked, drawn on and written."""
