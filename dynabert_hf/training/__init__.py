"""From a fine-tuned model to all its sizes."""
