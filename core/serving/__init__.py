"""Using a classifier: one image, many images, over HTTP."""
