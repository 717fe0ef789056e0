"""The elastic model: exactly the files that travel to the Hub with a checkpoint. Nothing here serves training alone."""
