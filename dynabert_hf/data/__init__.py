"""Text in: reading labelled text, views and augmentation of it."""
