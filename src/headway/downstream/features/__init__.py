"""Features of images, written to a file that can be resumed."""
